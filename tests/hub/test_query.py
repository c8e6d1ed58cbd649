"""Questions to the lake: KQL and SQL, what they may use, and what they may never touch."""

from __future__ import annotations

import asyncio
import datetime
import json
import threading
from pathlib import Path

import pytest
from lake_support import NOON, SECURITY, intake, message

from vedette.hub.intake import Inbound
from vedette.hub.lake import Cancelled, Lake, Limits, QueryError, Result, Watch
from vedette.hub.lake.query import QUERY_CHARS
from vedette.hub.lake.views import sql_type
from vedette.wire.events import EVENT_TYPES, Baseline, Event, Outcome, Statistics, pascal
from vedette.wire.iothub import Identity
from vedette.wire.message import Window, pack


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two devices, three messages, one statistics event, one dead letter; the quote in the path is meant."""
    path = tmp_path_factory.mktemp("it's a") / "lake=1"
    statistics = Statistics(name="Process", events=(Outcome(description="sent", hit_count=4, events=2),))
    [packed] = pack([([Event(statistics, NOON)], Window(NOON - 60, NOON))])

    async def fill() -> None:
        async with intake(path) as hub:
            await hub.submit(message("ls -l", "id", mid="a", hits=3))
            await hub.submit(message("ls -l", mid="b", device="d2", hits=4, received=NOON + 86_400))
            await hub.submit(Inbound(Identity("d1"), SECURITY, packed.body, NOON))
            await hub.submit(Inbound(Identity("d1"), {}, b"21", NOON))

    asyncio.run(fill())
    return Lake(path)


@pytest.fixture
def nowhere(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "none")


TOP = "Process | summarize Executions=sum(HitCount) by Commandline | top 10 by Executions"

FAILED_CHECKS = """\
let lastDates = SecurityIoTRawEvent | where RawEventName == "Baseline" | summarize TimeStamp=max(TimeStamp) by DeviceId;
lastDates | join kind=inner (SecurityIoTRawEvent) on TimeStamp, DeviceId | extend event = parse_json(EventDetails)
| where event.BaselineCheckResult == "FAIL" | project DeviceId, event.BaselineCheckId, event.BaselineCheckDescription"""  # noqa: E501

ALERTS = """\
SecurityAlert | where TimeGenerated > ago(7d)
| summarize Cnt=dcount(SystemAlertId) by IoTHubId=ResourceId, DeviceId=tostring(parse_json(ExtendedProperties)["DeviceId"]), AlertSeverity, DisplayName"""  # noqa: E501

RECOMMENDATIONS = """\
SecurityRecommendation | where RecommendationName contains "IoT_CISBenchmarks_DIoTTest" | where DeviceId contains "<device-id>" | top 1 by TimeGenerated desc"""  # noqa: E501


def test_executions_are_summed_by_command_line(lake: Lake):
    """Hit counts are added, over devices and days."""
    assert lake.query(TOP) == Result(("Commandline", "Executions"), [("ls -l", 7), ("id", 3)])


def test_dynamic_details_are_shown_without_quotes(lake: Lake):
    """A property of a dynamic column reads as its text, an object as JSON."""
    result = lake.query(
        'DefenderIoTRawEvent | where RawEventName == "Process" and DeviceId == "d2" '
        "| project EventDetails.Commandline, EventDetails.ProcessId, EventDetails"
    )
    [(command, process, details)] = result.rows
    assert (command, process) == ("ls -l", "7")
    assert json.loads(details)["Executable"] == ""


def test_the_documented_table_has_its_columns(lake: Lake):
    """Every documented column is there under its name, EventDetails as a string."""
    documented = [
        "AgentVersion",
        "DeviceId",
        "AssociatedResourceId",
        "AzureSubscriptionId",
        "EventDetails",
        "IoTRawEventId",
        "IsEmpty",
        "RawEventCategory",
        "RawEventName",
        "RawEventType",
        "TimeGenerated",
        "TimeStamp",
        "Type",
    ]
    for table in ("SecurityIoTRawEvent", "DefenderIoTRawEvent"):
        result = lake.query(f"{table} | where RawEventName == 'Process' and DeviceId == 'd2'")
        row = dict(zip(result.columns, result.rows[0], strict=True))
        assert set(documented) <= set(row)
        assert row["Type"] == table
        assert row["TimeGenerated"] == datetime.datetime(2026, 1, 2, 12)
        assert [row["RawEventCategory"], row["RawEventType"], row["IsEmpty"]] == [
            "Triggered",
            "Security",
            False,
        ]
        assert json.loads(row["EventDetails"])["HitCount"] == 4


@pytest.mark.parametrize("text", [FAILED_CHECKS, ALERTS, RECOMMENDATIONS], ids=["checks", "alerts", "advice"])
def test_the_queries_that_users_have_run_unchanged(lake: Lake, nowhere: Lake, text: str):
    """On this lake and on one that does not exist they answer, with no rows."""
    assert lake.query(text).rows == []
    assert nowhere.query(text).rows == []


async def test_failed_checks_of_the_latest_scan_are_found(tmp_path: Path):
    """The documented query joins each device's last scan with itself: earlier failures are not shown."""
    scans = [(NOON, {"1.1.1": "FAIL", "1.1.2": "FAIL"}), (NOON + 3600, {"1.1.1": "PASS", "1.1.2": "FAIL"})]
    async with intake(tmp_path) as hub:
        for moment, results in scans:
            events = [
                Event(
                    Baseline(
                        event_id="scan",
                        baseline_check_id=check,
                        baseline_check_result=result,  # type: ignore[arg-type]
                        baseline_check_description=f"about {check}",
                        baseline_check_remediation="",
                        baseline_check_severity="Warning",
                    ),
                    moment,
                )
                for check, result in results.items()
            ]
            [packed] = pack([(events, Window(moment, moment))])
            await hub.submit(Inbound(Identity("d1"), SECURITY, packed.body, moment))
    result = Lake(tmp_path).query(FAILED_CHECKS)
    assert result.columns == ("DeviceId", "event_BaselineCheckId", "event_BaselineCheckDescription")
    assert result.rows == [("d1", "1.1.2", "about 1.1.2")]


@pytest.mark.parametrize("declared", EVENT_TYPES.values(), ids=str)
def test_every_event_type_is_a_table(nowhere: Lake, declared):
    """It has the common columns and one for each payload field."""
    columns = nowhere.query(declared.table).columns
    common = ("TimeGenerated", "DeviceId", "ModuleId", "TimeStamp", "HitCount", "WindowStart", "WindowEnd")
    assert columns == (*common, *(pascal(field) for field in declared.payload.__struct_fields__))


def test_payload_fields_have_proper_types(lake: Lake):
    """Numbers compare as numbers, parts stay JSON, an unknown value is null."""
    [row] = lake.query("Process | where DeviceId == 'd2' | project UserId, CommandlineLength").rows
    assert row == (0, None)
    [(events,)] = lake.query("SELECT Events FROM Statistics", "sql").rows
    assert json.loads(events) == [{"Description": "sent", "HitCount": 4, "Events": 2}]


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (int, "BIGINT"),
        (int | None, "BIGINT"),
        (bool, "BOOLEAN"),
        (float, "DOUBLE"),
        (tuple[str, ...], "JSON"),
    ],
)
def test_sql_types_follow_the_declaration(hint: object, expected: str):
    """A field's type decides its column's."""
    assert sql_type(hint) == expected


def test_times_can_be_binned_and_compared(lake: Lake):
    """TimeGenerated is a UTC time to KQL whatever this machine's zone is."""
    result = lake.query(
        "Process | where TimeGenerated >= datetime(2026-01-02) | summarize count() by bin(TimeGenerated, 1d)"
    )
    assert result.rows == [(datetime.datetime(2026, 1, 2), 1)]


def test_dead_letters_can_be_queried(lake: Lake):
    """Their reason and body are there for whoever looks for a fault."""
    [(reason, raw)] = lake.query("dead_letters | project Reason, Body").rows
    assert reason.startswith("not a security message")
    assert raw == b"21"


def test_a_lake_that_does_not_exist_is_empty(nowhere: Lake):
    """Asking before the hub ever ran is no error, and creates nothing."""
    assert nowhere.query("Process | count").rows == [(0,)]
    assert nowhere.query("SELECT count(*) FROM raw_events", "sql").rows == [(0,)]
    assert not nowhere.where.exists()


def test_a_result_is_cut_at_the_row_limit(lake: Lake):
    """It says whether there was more."""
    assert lake.query("Process", limits=Limits(rows=2)).truncated
    assert len(lake.query("Process", limits=Limits(rows=2)).rows) == 2
    assert not lake.query("Process", limits=Limits(rows=3)).truncated


@pytest.mark.parametrize(
    "text",
    [
        "COPY Process TO '{secret}'",
        "COPY (SELECT 1) TO '{data}'",
        "ATTACH '{secret}' AS other",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET lock_configuration = false",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "SET VARIABLE x = 1",
        "PRAGMA database_list",
        "EXPORT DATABASE '{secret}'",
        "IMPORT DATABASE '{secret}'",
        "CREATE TABLE x (a INTEGER)",
        "INSERT INTO SecurityAlert (AlertName) VALUES ('x')",
        "WITH x AS (INSERT INTO raw_events VALUES (1) RETURNING *) SELECT * FROM x",
        "DROP VIEW Process",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}'",
        "PREPARE x AS SELECT 1",
        "SELECT 1; COPY (SELECT 1) TO '{data}'",
        "SELECT * FROM read_text('{secret}')",
        "SELECT * FROM read_blob('{secret}')",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM sniff_csv('{secret}')",
        "SELECT * FROM read_json('{secret}')",
        "SELECT * FROM read_parquet('{secret}')",
        "SELECT * FROM parquet_metadata('{secret}')",
        "SELECT * FROM '{secret}'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{data}''')",
        "SELECT getenv('HOME')",
        "",
        ";",
    ],
)
def test_sql_can_only_read_the_lake(lake: Lake, tmp_path: Path, text: str):
    """Nothing is written, nothing outside is read, and no setting changes."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    [data, *_] = sorted((lake.where / "raw_events").glob("*/*.parquet"))
    before = {path: path.stat().st_mtime_ns for path in lake.where.rglob("*")}
    with pytest.raises(QueryError) as refused:
        lake.query(text.format(secret=secret, data=str(data).replace("'", "''")), "sql")
    assert "Traceback" not in str(refused.value)
    assert secret.read_text() == "secret"
    assert {path: path.stat().st_mtime_ns for path in lake.where.rglob("*")} == before


@pytest.mark.parametrize(
    "text",
    [
        "externaldata(x:string)['/etc/passwd']",
        ".drop table Process",
        ".set New <| Process",
        ".set-or-replace SecurityAlert <| Process",
        ".create database other",
        'print x = "a"; print y = "b"',
    ],
)
def test_kql_can_only_read_the_lake(lake: Lake, text: str):
    """Control commands that write and sources outside are refused."""
    with pytest.raises(QueryError):
        lake.query(text)


@pytest.mark.parametrize(
    ("text", "language", "line", "column", "words"),
    [
        ("Process | whre x", "kql", 1, 11, "'whre' is not supported"),
        ("Process\n| take 5 |", "kql", 2, 11, "expected an operator"),
        ("Process | evaluate foo()", "kql", 1, 11, "not supported"),
        ("Process | where Nothing == 1", "kql", 1, 17, 'no column "Nothing"'),
        ("Proces | count", "kql", 1, 1, "did you mean Process"),
        ("SELECT *\nFROM Proces", "sql", 2, 6, "Proces does not exist"),
        ("SELECT 1 frm\n x y", "sql", 2, 2, "syntax error"),
    ],
)
def test_errors_say_what_is_wrong_and_where(
    lake: Lake, text: str, language: str, line: int, column: int, words: str
):
    """The position is in the text that the user wrote, or is not given."""
    with pytest.raises(QueryError, match=words) as wrong:
        lake.query(text, language)  # type: ignore[arg-type]
    assert (wrong.value.line, wrong.value.column) == (line, column)
    assert "LINE" not in str(wrong.value)


def test_a_long_query_text_is_refused(lake: Lake):
    """Parsing is bounded before it begins."""
    with pytest.raises(QueryError, match="allowed"):
        lake.query("Process" + " | count" * QUERY_CHARS)


def test_a_deeply_nested_query_is_refused(lake: Lake):
    """Neither translator nor database may overflow its stack."""
    with pytest.raises(QueryError):
        lake.query("print x = " + "(" * 3000 + "1" + ")" * 3000)
    with pytest.raises(QueryError):
        lake.query("SELECT " + "(" * 10_000 + "1" + ")" * 10_000, "sql")


def test_a_query_that_takes_too_long_is_interrupted(lake: Lake):
    """A product of two billion-row sequences ends with an error, and the next query is answered."""
    with pytest.raises(QueryError, match=r"longer than 0\.2 s"):
        lake.query(
            "SELECT sum(a.range * b.range) FROM range(1000000000) a, range(1000000000) b",
            "sql",
            limits=Limits(seconds=0.2),
        )
    assert "query-limit" not in {thread.name for thread in threading.enumerate()}
    assert lake.query("Process | count").rows == [(3,)]


def test_a_query_that_needs_too_much_memory_is_refused(lake: Lake):
    """The limit is a limit: nothing spills to disk."""
    with pytest.raises(QueryError, match="memory"):
        lake.query(
            "SELECT list(range) FROM range(50000000)", "sql", limits=Limits(memory_bytes=32 * 1024 * 1024)
        )


async def test_queries_see_each_commit_while_the_hub_runs(tmp_path: Path):
    """A query reads what is committed at that moment, from another thread than the one that writes."""
    lake = Lake(tmp_path)
    async with intake(tmp_path) as hub:
        for number in range(1, 4):
            await hub.submit(message("ls", mid=str(number)))
            result = await asyncio.to_thread(lake.query, "Process | count")
            assert result.rows == [(number,)]


def test_a_query_is_watched_and_ended_from_outside(tmp_path: Path):
    """From another thread; what has not begun does not begin."""
    lake, watch = Lake(tmp_path / "lake"), Watch()
    begun = threading.Event()

    def follow() -> None:
        while not watch.share() and not watch.cancelled:
            begun.wait(0.01)
        watch.cancel()

    watcher = threading.Thread(target=follow)
    watcher.start()
    endless = "SELECT sum(hash(a.range * b.range)) FROM range(3000000) a, range(100000) b"
    with pytest.raises(Cancelled):
        lake.query(endless, "sql", watch=watch)
    watcher.join()
    with pytest.raises(Cancelled):
        lake.query("SELECT 1", "sql", watch=watch)
    assert lake.query("SELECT 1", "sql", watch=Watch()).rows == [(1,)]
