"""The same questions on DuckDB, Sail and a Spark cluster: the answers are equal."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import spark_rig
import spark_venv

from made_lake import make
from vedette.hub.lake import Lake, Limits, QueryError, Result
from vedette.hub.lake.spark import SparkLake, connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIMITS = Limits(seconds=300)

NOW = datetime.datetime(2026, 1, 6)
SINCE = "datetime(2026-01-02)"

QUESTIONS = [
    "SecurityIoTRawEvent | summarize Events=count(), Hits=sum(HitCount) by RawEventName",
    f"Process | where TimeGenerated > {SINCE} | summarize Hits=sum(HitCount), Devices=dcount(DeviceId),"
    " Last=max(TimeStamp) by Commandline | order by Hits desc, Commandline asc | take 5",
    "NetworkActivity | summarize Hits=sum(HitCount) by bin(TimeGenerated, 6h), RemotePort | render timechart",
    'let last = SecurityIoTRawEvent | where RawEventName == "Baseline" | summarize TimeStamp=max(TimeStamp)'
    " by DeviceId; last | join kind=inner (SecurityIoTRawEvent) on TimeStamp, DeviceId"
    ' | extend event = parse_json(EventDetails) | where event.BaselineCheckResult == "FAIL"'
    " | project DeviceId, event.BaselineCheckId, event.BaselineCheckDescription",
    "Login | where Operation == 'LoginFailed' | summarize Attempts=sum(HitCount), Last=max(TimeStamp)"
    " by DeviceId, UserName, RemoteAddress | order by Attempts desc, DeviceId asc, UserName asc,"
    " RemoteAddress asc | take 20",
    "SecurityAlert | summarize Cnt=dcount(SystemAlertId) by IoTHubId=ResourceId,"
    ' DeviceId=tostring(parse_json(ExtendedProperties)["DeviceId"]), AlertSeverity, DisplayName',
    'SecurityRecommendation | where RecommendationName contains "DIoTTest" | top 1 by TimeGenerated desc'
    " | project DeviceId, RecommendationName, Properties.RemediationSteps",
    "Devices | join kind=leftouter (Process | summarize Runs=count() by DeviceId) on DeviceId"
    " | project DeviceId, Enabled, Tags.site, Runs | order by DeviceId asc",
    'Process | where Commandline has "tmp" or Commandline startswith "CURL" or Commandline contains_cs "RO"'
    " | summarize count() by Commandline = substring(Commandline, 0, 9)",
    'Process | where Commandline matches regex "id=[0-9]+"'
    ' | extend id = extract("id=([0-9]+)", 1, Commandline, typeof(long))'
    " | summarize n=count(), top=max(id), mean=round(avg(id), 3) by bin(id, 25)",
    'Process | parse Commandline with "curl http://" Host "/" Path " " * | where isnotempty(Host)'
    " | summarize count() by Host | extend url = strcat('http://', Host, '/')",
    f"NetworkActivity | where TimeGenerated between ({SINCE} .. 1d) and ipv4_is_private(RemoteAddress)"
    " and RemotePort in (22, 443) | summarize Bytes=sum(BytesIn + BytesOut) by RemotePort, Protocol",
    "Process | summarize arg_max(TimeGenerated, Commandline, HitCount) by DeviceId | order by DeviceId asc",
    "Process | summarize names=make_set(UserName), list=make_list(UserId) by DeviceId"
    " | project DeviceId, users=array_length(names), events=array_length(list)",
    'DefenderIoTRawEvent | where RawEventName == "Baseline" | mv-expand part = EventDetails.Parts'
    " | summarize count() by tostring(part)",
    "Process | summarize p50=percentile(HitCount, 50), p95=percentile(HitCount, 95),"
    " dev=round(stdev(HitCount), 6)",
    "Process | extend age = datetime(2026-01-06) - TimeGenerated | where age < 12h | summarize max(age),"
    " days=round(max(age) / 1d, 6) by day=startofday(TimeGenerated)",
    "Process | extend day=dayofweek(TimeGenerated), hour=hourofday(TimeGenerated),"
    ' at=format_datetime(TimeGenerated, "yyyy-MM-dd HH:mm") | summarize count(), min(at) by day, hour'
    " | order by day asc, hour asc | take 30",
    "union withsource=kind Process, Login | summarize count(), dcount(UserName) by kind",
    "Process | join kind=leftanti (Login | where UserName == 'u1') on DeviceId | summarize dcount(DeviceId)",
    "Login | join (Process) on DeviceId, UserName | summarize count() by UserName",
    "let odd = dynamic(['dev1', 'dev3']); let f = (x: string) { strcat(x, '!') };"
    " Process | where DeviceId in (odd) | distinct Device = f(DeviceId) | order by Device asc",
    "Process | where DeviceId in ((Login | where UserName == 'u2' | project DeviceId)) | count",
    "Process | extend kind = case(HitCount > 9, 'many', HitCount > 4, 'some', 'few'), half = HitCount / 2,"
    " part = HitCount / 2.0 | summarize count(), sum(half), sum(part) by kind",
    "Process | project-away Window* | project-rename Device = DeviceId | top 3 by TimeGenerated asc"
    " | project Device, TimeGenerated, Commandline",
    "Process | top 5 by TimeGenerated | extend n = row_number(), before = prev(HitCount) | project n, before",
    "Process | where HitCount > toscalar(Process | summarize avg(HitCount)) | count",
    "Process | extend parts = split(Commandline, ' ') | summarize count() by First=tostring(parts[0]),"
    " Last=tostring(parts[-1]) | order by First asc, Last asc | take 10",
    "dead_letters | count",
    "range n from 1 to 5 step 2 | extend square = n * n, text = tostring(n)",
]

SQL = [
    "SELECT RawEventName, count(*) AS Events, sum(HitCount) AS Hits FROM SecurityIoTRawEvent"
    " GROUP BY RawEventName ORDER BY Hits DESC, RawEventName",
    "SELECT Commandline, count(DISTINCT DeviceId) AS Devices FROM Process GROUP BY 1 ORDER BY 2 DESC, 1"
    " LIMIT 7",
    "SELECT a.DisplayName, d.Enabled FROM SecurityAlert a JOIN Devices d ON a.DisplayName <> d.DeviceId",
    "WITH t AS (SELECT DeviceId, max(TimeGenerated) AS last FROM raw_events GROUP BY DeviceId)"
    " SELECT * FROM t ORDER BY DeviceId;",
]


def _beside() -> Mapping[str, Callable[[], pa.Table]]:
    alert = {
        "SystemAlertId": "a1",
        "ResourceId": "dev1",
        "AlertSeverity": "High",
        "DisplayName": "Shell",
        "ExtendedProperties": '{"DeviceId":"dev1"}',
        "TimeGenerated": NOW,
    }
    advice = {
        "DeviceId": "dev2",
        "RecommendationName": "IoT_CISBenchmarks_DIoTTest",
        "Properties": '{"RemediationSteps":"Remove \\"it\\""}',
        "TimeGenerated": NOW,
    }
    devices = [
        {
            "DeviceId": f"dev{n}",
            "Enabled": n != 2,
            "Tags": json.dumps({"site": f"s{n}"}),
            "LastActivity": None,
        }
        for n in (1, 2, 77)
    ]
    rows: dict[str, list[dict[str, Any]]] = {
        "SecurityAlert": [alert],
        "SecurityRecommendation": [advice],
        "Devices": devices,
    }
    return {name: lambda found=found: pa.Table.from_pylist(found) for name, found in rows.items()}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20,000 events of five days."""
    return make(tmp_path_factory.mktemp("lake"), 20_000)


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    try:
        spark_venv.interpreter()
    except spark_venv.CannotInstall as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[spark_rig.Cluster]:
    with spark_rig.cluster(tmp_path_factory.mktemp("spark")) as started:
        yield started


@pytest.fixture(scope="module")
def sail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with spark_rig.sail(tmp_path_factory.mktemp("sail")) as started:
        yield started


def _comparable(result: Result, *, ordered: bool) -> tuple[tuple[str, ...], list[str]]:
    """Rows as texts; in no order unless the question asked for one."""
    rows = [repr(row) for row in result.rows]
    return result.columns, rows if ordered else sorted(rows)


def _differences(path: Path, other: SparkLake) -> list[str]:
    """The questions that the two answer differently, and how."""
    duckdb = Lake(path, _beside())
    found = []
    for language, questions in (("kql", QUESTIONS), ("sql", SQL)):
        for question in questions:
            ordered = any(word in question.lower() for word in ("order by", "top "))
            expected = duckdb.query(question, language)
            assert expected.columns
            answers = [
                _comparable(result, ordered=ordered)
                for result in (expected, other.query(question, language, limits=LIMITS))
            ]
            if answers[0] != answers[1]:
                found.append(f"{question}\n  {answers[0]}\n  {answers[1]}")
    return found


def test_most_questions_have_an_answer(path: Path):
    """What is compared is more than nothing: the questions find rows, but for one of a table without."""
    lake = Lake(path, _beside())
    empty = [question for question in QUESTIONS if not lake.query(question).rows]
    assert len(QUESTIONS) >= 20
    assert empty == []


def test_sail_answers_as_duckdb_does(path: Path, sail: str):
    """Over Spark Connect, on the Delta tables themselves."""
    session = connect(remote=sail)
    try:
        lake = SparkLake(path, session, _beside())
        assert _differences(path, lake) == []
        assert lake.delta
    finally:
        session.stop()


def test_a_spark_cluster_answers_as_duckdb_does(path: Path, cluster: spark_rig.Cluster):
    """Over Spark Connect, on the files that the log names: there is no Delta in it."""
    session = connect(remote=cluster.remote)
    try:
        lake = SparkLake(path, session, _beside())
        assert _differences(path, lake) == []
        assert not lake.delta
    finally:
        session.stop()


def test_a_session_without_connect_answers(path: Path, cluster: spark_rig.Cluster, tmp_path: Path):
    """The command with the whole of Spark in place of the client, at the master itself."""
    vedette = [sys.executable, "-m", "vedette.cli"]
    subprocess.run([*vedette, "hub", "init", "--state", str(tmp_path)], check=True, capture_output=True)
    shutil.copytree(path, tmp_path / "lake", dirs_exist_ok=True)
    done = subprocess.run(
        [
            *(*vedette, "query", "--state", str(tmp_path), "--json"),
            *("--engine", "spark", "--master", cluster.master, "Process | summarize n=count() by UserName"),
        ],
        env=spark_rig.environment() | {"PYTHONPATH": str(spark_rig.SITE)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    expected = Lake(path).query("Process | summarize n=count() by UserName").rows
    assert sorted((row["UserName"], row["n"]) for row in json.loads(done.stdout)) == sorted(expected)


def test_only_a_select_passes(path: Path, sail: str):
    """Whatever else is asked in SQL is an error of its syntax, not carried out."""
    session = connect(remote=sail)
    try:
        lake = SparkLake(path, session)
        for text in ("DROP TABLE raw_events", "SELECT 1) AS x; DROP TABLE raw_events --", "SET x = 1"):
            with pytest.raises(QueryError):
                lake.query(text, "sql", limits=LIMITS)
        assert lake.query("SELECT count(*) FROM raw_events", "sql", limits=LIMITS).rows == [(20_000,)]
    finally:
        session.stop()


def test_rows_and_time_are_limited(path: Path, cluster: spark_rig.Cluster):
    """More rows than allowed are cut, and said to be; a query that takes too long is interrupted."""
    session = connect(remote=cluster.remote)
    try:
        lake = SparkLake(path, session)
        cut = lake.query("Process | take 50", limits=Limits(seconds=300, rows=7))
        assert len(cut.rows) == 7
        assert cut.truncated
        endless = "SELECT count(*) FROM range(1000000) a CROSS JOIN range(1000000) b WHERE a.id + b.id = 7"
        with pytest.raises(QueryError, match="longer than 3 s"):
            lake.query(endless, "sql", limits=Limits(seconds=3))
    finally:
        session.stop()
