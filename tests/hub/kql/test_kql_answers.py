"""KQL on DuckDB, held against another implementation of the language and against what it documents."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

import duckdb
import duckdb_kql
import pytest
from duckdb_kql.engine import schema

from vedette.hub.kql import DuckDB, Kind, translate

TABLES: dict[str, dict[str, Kind]] = {
    "T": {
        "At": "datetime",
        "Device": "string",
        "Hits": "long",
        "Line": "string",
        "User": "long",
        "Details": "string",
        "Share": "real",
        "Odd": "bool",
        "Ip": "string",
    },
    "U": {"Device": "string", "X": "long"},
}

ROWS = """
CREATE TABLE T AS SELECT make_timestamp(1767268800000000 + i * 977000000) AS At, 'dev' || (i % 7) AS Device,
    (i * 37) % 11 AS Hits,
    ['/usr/bin/ssh -l root host', 'ls -l', 'CURL http://x/y?id=' || i || ' end', '',
        'bash -c "a b"'][1 + i % 5] AS Line,
    CASE WHEN i % 3 = 0 THEN NULL ELSE i % 4 END AS User,
    '{"a":"x' || i % 3 || '","n":' || i || ',"f":1.5,"l":["p",2,"q"],"o":{"c d":true},"r":"'
        || ['FAIL', 'PASS'][1 + i % 2] || '"}' AS Details,
    (i % 2)::DOUBLE + 0.25 AS Share, i % 2 = 1 AS Odd, '10.0.' || (i % 3) || '.1' AS Ip
FROM range(200) t(i);
CREATE TABLE U AS SELECT 'dev' || i AS Device, i * 10 AS X FROM range(4) t(i);
"""


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        opened.execute(ROWS)
        yield opened


def ask(connection: duckdb.DuckDBPyConnection, text: str) -> list[tuple[Any, ...]]:
    """Our answer."""
    return connection.execute(translate(text, TABLES, DuckDB()).sql).fetchall()


def plain(value: Any) -> Any:
    """A value without what implementations are free to choose: order of sets, blanks in JSON, last digits."""
    if isinstance(value, float):
        return None if value != value else round(value, 9)
    if isinstance(value, list | dict):
        value = json.dumps(value)
    if isinstance(value, str) and value.startswith('"') and value.endswith('"'):
        return json.loads(value)
    if isinstance(value, str) and value[:1] in ("[", "{"):
        found = json.loads(value)
        return repr(sorted(found, key=repr) if isinstance(found, list) else found)
    return int(value) if type(value).__name__ == "Decimal" else value


def comparable(found: duckdb.DuckDBPyConnection) -> tuple[list[str], list[str]]:
    columns = [column[0] for column in found.description or ()]
    return columns, sorted(repr([plain(value) for value in row]) for row in found.fetchall())


DEV3 = [("dev3", 30, 4, 20, 60)]

BOTH = r"""
T | where Line has "ssh" and Line !contains "x" and Device =~ "DEV1" and Line startswith "/" | count
T | extend x=Hits/2, y=1.5*Hits, z=tolower(Line), w=strcat(Device, "-", Hits), s=split(Line, " ")[0]
T | summarize count(), dcount(Device), sum(Hits), avg(Hits), min(At) by bin(At, 1h), Device
T | summarize arg_max(At, *) by Device
T | summarize arg_min(At, Line, Hits) by Device
T | summarize make_set(Line), make_list(Hits), countif(User == 0), percentile(Hits, 90) by Device
T | summarize c=make_set(Line) by Device | mv-expand c to typeof(string) | project Device, c
T | extend e=parse_json(Details) | where e.r == "FAIL" and toint(e.n) > 3 | project e.a, e.o["c d"], e["l"][0]
T | extend e=todynamic(Details) | project tostring(e.f), e.n, e.o, e.missing.part
T | extend k=iff(Device matches regex "^dev[12]", 1, 2), f=format_datetime(At, "yyyy-MM-dd HH:mm")
T | join kind=inner (U) on Device | project Device, X, Hits
T | join kind=leftouter U on Device | where isnull(X) | count
T | join kind=rightouter U on Device | count
T | join kind=fullouter U on Device | count
T | join kind=leftanti U on Device | distinct Device
T | join kind=leftsemi U on Device | distinct Device
T | join kind=rightsemi U on Device
T | join U on Device | count
T | join kind=inner (U | where X > 10) on $left.Device == $right.Device | summarize sum(X)
T | lookup U on Device | summarize sum(X) by Device
T | lookup kind=inner U on Device | count
union T, U | count
union withsource=tt T, U | summarize count() by tt
T | parse Line with * "id=" Id:long " " rest | project Line, Id, rest
T | extend d = At - datetime(2026-01-01) | extend m = d / 1h, dd = d + 1h | project d, m, dd
T | extend q = case(Hits > 5, "a", Hits > 2, "b", "c"), c=coalesce(Device, "z"), b=bin(Hits, 5)
T | extend r=round(1.234, 1), fl=floor(Share, 0.5), a=abs(-3), p=pow(2, 3), l=log10(100), k=10 % 3, i=7 / 2
T | extend i=min_of(1, Hits), j=max_of(5, Hits), m=7.0 / 2, n=sqrt(4), o=exp(0)
T | where Device in ("dev1", "dev2") or Device in~ ("DEV3") or Line has_any ("curl", "y") | count
T | where Device !in ("dev1") and Device !in~ ("DEV2") | count
T | where User != 1 | count
T | where not(User == 1) | count
T | where User == 1 or Odd | count
T | where At > datetime(2026-01-02) and At <= datetime(2026-01-02T10:00:00Z) | count
T | where At between (datetime(2026-01-01) .. 1d) | count
T | where Hits !between (2 .. 5) | count
T | order by Hits desc, At asc | take 5 | project Hits, At
T | top 3 by At
T | extend s=tostring(At), t=tostring(Odd), u=tostring(Share), v=tostring(User) | project s, t, u, v
T | extend a=toint("12"), b=todouble("1.5"), c=tobool("true"), e=toint("x"), f=tolong(3.7), g=tolong("3.7")
T | extend d=todatetime("2026-01-01T00:00:00Z"), n=todatetime("never")
T | extend a=substring(Line, 1, 3), b=indexof(Line, "s"), c=replace_string(Line, "s", "S"), d=strlen(Line)
T | extend e=countof(Line, "l"), f=reverse(Line), g=trim("/", Line), h=extract("([a-z]+)", 1, Line)
T | extend i=replace_regex(Line, "([a-z])l", "<\\1>"), t=trim_start("/", Line), u=trim_end("l", Line)
T | extend a=array_length(split(Line, " ")), b=split(Line, " ")[1], c=strcat_array(split(Line, " "), "|")
T | extend d=pack("a", Hits, "b", Line), e=pack_array(1, "x", Odd), f=bag_pack("t", 1)
T | extend a=hourofday(At), b=dayofweek(At), c=getmonth(At), d=dayofyear(At), h=week_of_year(At)
T | extend e=startofweek(At), f=startofmonth(At), g=startofyear(At), h=startofday(At), i=endofday(At)
T | extend a=datetime_diff('hour', At, datetime(2025-12-31)), b=datetime_add('day', 3, At)
T | extend c=datetime_part('hour', At), d=datetime_diff('month', At, datetime(2025-10-31))
T | extend e=datetime_add('month', 2, At)
T | summarize round(avg(Hits), 2), n=sum(Hits) / count() by Device
T | summarize stdev(Hits), variance(Hits), dcountif(Device, Hits > 3), sumif(Hits, Odd), avgif(Hits, Odd)
T | summarize max(Hits), min(Line), take_any(Device) by Device
T | summarize by Device, Hits
T | summarize sum(Hits) by x = bin(At, 1d) | order by x asc
T | where Line contains_cs "CURL" or Line endswith "L" or Line hasprefix "cu" or Line hassuffix "sh" | count
T | where Line has_all ("curl", "http") | count
T | where Line =~ "LS -L" or Line !~ "LS -L" | count
let t = 3h; let dev = "dev1"; T | where At > datetime(2026-01-02) - t and Device == dev | count
let l = dynamic(["dev1", "dev2"]); T | where Device in (l) | count
let f = (x: string) { strcat(x, "!") }; T | extend y = f(Device) | distinct y
let m = T | where Hits > 3; m | join kind=inner (m | summarize c=count() by Device) on Device | project c
T | where Device in ((U | where X > 10 | project Device)) | count
T | where Hits > toscalar(T | summarize avg(Hits)) | count
T | extend x = toscalar(U | count) | project x | take 1
print x = 1 + 1, y = 1h, z = strcat("a", 1), w = 2d + 3h, v = dynamic({"a":[1,2]})
range x from 1 to 10 step 3
datatable(a:long, b:string, c:datetime)[1, "x", datetime(2026-01-01), 2, "y", datetime(null)]
datatable(d:dynamic)[dynamic([1,2,"a"]), dynamic(null), dynamic("s")] | mv-expand d
T | extend l = parse_json(Details).l | mv-expand with_itemindex=i x = l | summarize count() by tostring(x), i
T | project-away Details, Line | project-rename Dev = Device | take 1 | project Dev
T | extend x = Hits * 1h | project x
T | project At - 1d, Hits + 1, Device
T | where isempty(Line) or isnotempty(Ip) and isnull(User) | count
T | extend h=hash_sha256(Device), m=hash_md5(Device), b=base64_encode_tostring(Device)
T | where At > ago(1d) | count
T | sort by Hits | project-away Hits | take 3 | count
"""


@pytest.mark.parametrize("text", BOTH.strip().splitlines())
def test_another_implementation_gives_the_same_answer(connection: duckdb.DuckDBPyConnection, text: str):
    """Names of columns, and values, on the same rows."""
    ours = comparable(connection.execute(translate(text, TABLES, DuckDB()).sql))
    other = duckdb_kql.to_sql(text, schema=schema(connection))
    assert ours == comparable(connection.execute(str(other), other.parameters))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("T | summarize count() by bin(At, 7d)", [(datetime.datetime(2025, 12, 29), 200)]),
        ("print bin(datetime(2026-01-07), 7d)", [(datetime.datetime(2026, 1, 5),)]),
        ("U | project-reorder X | take 1 | project-keep X, Dev*", [(0, "dev0")]),
        ("U | project-away D* | top 1 by X", [(30,)]),
        ("T | summarize percentiles(Hits, 50, 95)", [(5, 10)]),
        ("T | summarize minif(Hits, Hits > 3), maxif(Hits, Hits < 9)", [(4, 8)]),
        ("U | summarize make_list_if(X, X > 10)", [("[20,30]",)]),
        ("print extractjson('$.a.b', '{\"a\":{\"b\":7}}', typeof(long))", [(7,)]),
        ("print bag_keys(dynamic({'a':1,'b':2}))", [('["a","b"]',)]),
        ("print ipv4_is_private('172.31.0.9'), ipv4_is_private('172.32.0.9')", [(True, False)]),
        ("print ipv4_is_in_range('10.1.2.3', '10.1.0.0/16')", [(True,)]),
        ("print ipv4_is_in_range('x', '0.0.0.0/0')", [(False,)]),
        ("print unixtime_seconds_todatetime(86400)", [(datetime.datetime(1970, 1, 2),)]),
        ("U | sort by X asc | extend n=row_number(), p=prev(X), c=row_cumsum(X) | top 1 by n", DEV3),
        ("print split('a/b/c', '/')[-1], url_decode('a%20b')", [("c", "a b")]),
        ("datatable(a:string)['x', '', 'y'] | parse a with 'x' rest | count", [(3,)]),
        ("print a=dynamic([{'k':'v'}]) | mv-expand a | project a.k", [("v",)]),
        ("let both = (rows: (Device: string)) { rows | where Device == 'dev1' }; both(U)", [("dev1", 10)]),
        ("U | distinct * | count", [(4,)]),
        ("union isfuzzy=true U, NoSuchTable | count", [(4,)]),
        ("print x = 1 // a comment\n, y = @'a\\b', z = 'it\\'s'", [(1, "a\\b", "it's")]),
        ("U | as Kept | where ['Device'] == 'dev1' | project X | render barchart with (title='x')", [(10,)]),
        ("print -2h, time(00:01:30)", [(datetime.timedelta(hours=-2), datetime.timedelta(seconds=90))]),
    ],
)  # fmt: skip
def test_what_the_language_documents(
    connection: duckdb.DuckDBPyConnection, text: str, expected: list[tuple[Any, ...]]
):
    """Where the other implementation has no answer, or counts weeks from another day."""
    assert ask(connection, text) == expected


def test_rows_stay_sorted_to_the_end(connection: duckdb.DuckDBPyConnection):
    """Through columns that are added and taken away, and a join of the sorted rows with none of them."""
    rows = ask(connection, "U | sort by X | extend y = 1 | project-away X | where y == 1 | project Device")
    assert [device for (device,) in rows] == ["dev3", "dev2", "dev1", "dev0"]


def test_now_is_one_moment():
    """However often it is asked for; and it can be given."""
    sql = translate("print a = now(), b = now(-1d), c = ago(1d)", {}, DuckDB(), now=1_767_268_800.0).sql
    noon = datetime.datetime(2026, 1, 1, 12)
    day = datetime.timedelta(days=1)
    assert duckdb.sql(sql).fetchall() == [(noon, noon - day, noon - day)]
