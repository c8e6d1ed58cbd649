"""The lake in an object store: the promises of a disk, with several writers and a store that fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable
from lake_support import intake, message, rows, sql, stored

import object_store
from vedette.hub.intake import Intake
from vedette.hub.lake import CommitFailed, Lake, Maintenance, QueryError, objects
from vedette.hub.lake.commit import TableWriter
from vedette.hub.lake.objects import Bucket
from vedette.hub.lake.storage import StorageRefused, locate
from vedette.hub.lake.tables import RAW_EVENTS, open_tables
from vedette.hub.settings import HubError, HubSettings, HubState

SECRET = "not-so-secret"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[object_store.Emulator]:
    try:
        with object_store.s3() as server:
            yield server
    except object_store.CannotInstall as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object_store.Emulator]:
    try:
        with object_store.azure(tmp_path_factory.mktemp("azurite")) as server:
            yield server
    except object_store.CannotInstall as error:
        pytest.skip(str(error))


def fresh(server: object_store.Emulator, tmp_path: Path, **options: str) -> Bucket:
    """An empty lake."""
    place = locate(f"{server.url}/{uuid.uuid4().hex}", server.options | options, tmp_path)
    assert isinstance(place, Bucket)
    return place


@pytest.fixture(params=["s3", pytest.param("azure", marks=pytest.mark.slow)])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    return fresh(request.getfixturevalue(f"{request.param}_server"), tmp_path)


async def test_events_are_stored_once_merged_and_asked_for(lake: Bucket):
    """Commit, query, merge, sweep, restart and resend are what they are on a disk."""
    now = time.time()
    async with intake(lake) as hub:
        for number in range(12):  # beyond the first checkpoint
            await hub.submit(message("ls", mid=str(number), received=now))
    upkeep = Maintenance(lake, retention_days=90)
    upkeep.turn(datetime.now(UTC) + timedelta(days=1), sweep=True)
    assert (upkeep.state.merges, upkeep.state.merged_files) == (1, 12)
    assert not list(lake.scratch.iterdir()), "nothing is left of the merge on this machine"
    async with intake(lake) as hub:
        for number in range(13):
            await hub.submit(message("ls", mid=str(number), received=now))
        assert hub.counters.duplicates == 12
    assert stored(lake) == {f"{number}/0": 1 for number in range(13)}
    assert Lake(lake).query("Process | where Commandline == 'ls' | count").rows == [(13,)]


async def test_a_question_reads_the_lake_and_nothing_else(lake: Bucket):
    """Not other files of the bucket, not this machine's, and it writes neither."""
    async with intake(lake) as hub:
        await hub.submit(message("ls"))
    lake.put("other.csv", b"secret\n1\n")
    for text in (
        "SELECT * FROM read_csv('lake://other.csv')",
        "SELECT * FROM glob('lake://**')",
        "SELECT * FROM read_text('lake://raw_events/_delta_log/00000000000000000000.json')",
        "SELECT * FROM read_text('/etc/hostname')",
    ):
        with pytest.raises(QueryError, match="disabled by configuration"):
            sql(lake, text)
    with pytest.raises(QueryError, match="only queries are allowed"):
        sql(lake, "COPY (SELECT 1) TO 'lake://mine.parquet'")


async def test_a_store_that_fails_while_a_question_is_answered_is_named(
    lake: Bucket, monkeypatch: pytest.MonkeyPatch
):
    """The error says what the store said, in one line."""
    async with intake(lake) as hub:
        await hub.submit(message("ls"))

    def fails(*_: object) -> bytes:
        raise OSError("Generic S3 error: the bucket is on fire")

    monkeypatch.setattr(Bucket, "range", fails)
    with pytest.raises(QueryError, match=r"the bucket is on fire$") as refused:
        sql(lake, "SELECT * FROM raw_events")
    assert "Traceback" not in str(refused.value)
    assert "\n" not in str(refused.value)


async def test_what_was_read_once_is_not_asked_for_again(lake: Bucket, monkeypatch: pytest.MonkeyPatch):
    """Files never change, so the second question costs no request for small ones."""
    async with intake(lake) as hub:
        await hub.submit(message("ls"))
    place, asked = locate(lake.uri, lake.given, lake.scratch), list[str]()
    assert isinstance(place, Bucket)
    get = objects.obstore.get_range

    def counted(store: object, name: str, **part: int) -> object:
        asked.append(name)
        return get(store, name, **part)

    monkeypatch.setattr(objects.obstore, "get_range", counted)
    assert len(stored(place)) == 1
    once = len(asked)
    assert once > 0
    assert len(stored(place)) == 1
    assert len(asked) == once


def test_the_cache_keeps_the_latest_within_its_bound(monkeypatch: pytest.MonkeyPatch):
    """The oldest goes first, and what is large is not kept at all."""
    monkeypatch.setattr(objects, "CACHE_BYTES", 100)
    monkeypatch.setattr(objects, "CACHED_READ", 60)
    cache = objects.Recent()
    for name in "abc":
        cache.add((name, 0, 40), b"x" * 40)
        cache.get(("a", 0, 40))
    cache.add(("large", 0, 61), b"x" * 61)
    kept = [name for name in ("a", "b", "c", "large") if cache.get((name, 0, 61 if name == "large" else 40))]
    assert kept == ["a", "c"]


@pytest.mark.slow
def test_processes_that_commit_at_once_lose_and_double_nothing(lake: Bucket, tmp_path: Path):
    """Three hubs store into one lake, each also what another stores, while one of them maintains it."""
    given = json.dumps([lake.uri, lake.given, str(tmp_path)])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, __file__, given]
    hubs = [subprocess.Popen([*command, str(number)], env=environment) for number in range(3)]
    assert [hub.wait() for hub in hubs] == [0, 0, 0]
    own = Counter(f"{hub}-{number}/{index}" for hub in range(3) for number in range(40) for index in (0, 1))
    both = Counter(f"both-{number}/{index}" for number in range(20) for index in (0, 1))
    assert stored(lake) == own + both


async def ingest(where: Bucket, name: str) -> None:
    """One of the hubs: bursts of messages of its own, and one each that the others store as well."""
    hub, upkeep = Intake(where), Maintenance(where, retention_days=90, period=0.05)
    await hub.start()
    if name == "0":
        await upkeep.start()
    now = time.time()
    for number in range(20):
        mids = [f"{name}-{2 * number}", f"{name}-{2 * number + 1}", f"both-{number}"]
        await asyncio.gather(*(hub.submit(message("ls", "id", mid=mid, received=now)) for mid in mids))
    if name == "0":
        await upkeep.close()
        assert upkeep.state.failing == ""
    await hub.close()


@pytest.mark.slow
async def test_while_the_store_is_away_nothing_is_acknowledged(
    azure_server: object_store.Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stopped and started again: devices are refused meanwhile, what was acknowledged is there once."""
    monkeypatch.setattr(objects, "RETRIES", 0)
    lake = fresh(azure_server, tmp_path)
    now = time.time()
    async with intake(lake) as hub:
        await hub.submit(message("ls", mid="before", received=now))
        azure_server.stop()
        with pytest.raises(CommitFailed, match="error sending request"):
            await hub.submit(message("ls", mid="meanwhile", received=now))
        assert "error sending request" in hub.fault
        with pytest.raises(QueryError, match="the lake cannot be read"):
            stored(lake)
        azure_server.start()
        await hub.submit(message("ls", mid="meanwhile", received=now))
        assert hub.fault == ""
    assert stored(lake) == {"before/0": 1, "meanwhile/0": 1}


async def test_what_a_store_carries_out_too_late_is_stored_once(
    s3_server: object_store.Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A store that hangs and goes on later may still do what nobody waits for: the repeat finds it."""
    monkeypatch.setattr(objects, "RETRIES", 0)
    lake = fresh(s3_server, tmp_path, timeout="500ms")
    now = time.time()
    async with intake(lake) as hub:
        await hub.submit(message("ls", mid="before", received=now))
        s3_server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(CommitFailed):
                await hub.submit(message("ls", mid="late", received=now))
            assert hub.fault
        finally:
            s3_server.signal(signal.SIGCONT)
        while hub.fault:  # it may be too slow for half a second while it catches up
            try:
                await hub.submit(message("ls", mid="late", received=now))
            except CommitFailed:
                continue
    assert stored(lake) == {"before/0": 1, "late/0": 1}


def test_a_commit_that_arrives_after_it_was_given_up_is_whole(
    s3_server: object_store.Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its files are still there, and its messages are not stored again."""
    lake = fresh(s3_server, tmp_path)
    writer = TableWriter(lake, RAW_EVENTS)
    transact = DeltaTable.create_write_transaction
    under_way: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def times_out(*arguments: object, **options: object) -> None:
        under_way.append((arguments, options))
        raise OSError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", times_out)
        with pytest.raises(CommitFailed, match="timed out"):
            writer.append(rows("late"))
    [(arguments, options)] = under_way
    transact(*arguments, **options)  # type: ignore[arg-type]
    assert len(writer.append(rows("late"))) == 1, "it is known to be stored"
    assert stored(lake) == {"late/0": 1}


def test_a_merge_that_arrives_after_it_was_given_up_is_whole(
    s3_server: object_store.Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The merged file is still there, and no row is lost or doubled."""
    lake = fresh(s3_server, tmp_path)
    open_tables(lake)
    writer = TableWriter(lake, RAW_EVENTS)
    for mid in "abc":
        writer.append(rows(mid))
    transact = DeltaTable.create_write_transaction
    under_way: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def times_out(*arguments: object, **options: object) -> None:
        under_way.append((arguments, options))
        raise OSError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", times_out)
        with pytest.raises(OSError, match="timed out"):
            Maintenance(lake, retention_days=36_500).turn(datetime.now(UTC))
    [(arguments, options)] = under_way
    transact(*arguments, **options)  # type: ignore[arg-type]
    assert stored(lake) == {"a/0": 1, "b/0": 1, "c/0": 1}


def test_no_secret_is_told(s3_server: object_store.Emulator, tmp_path: Path):
    """Neither by an error of the store nor by the objects themselves."""
    lake = fresh(s3_server, tmp_path)
    elsewhere = locate("s3://no-such-bucket/fleet", s3_server.options, tmp_path)
    with pytest.raises(OSError, match="not found") as refused:
        elsewhere.get("nothing")
    assert SECRET in lake.options.values()
    assert SECRET not in f"{refused.value!r} {lake!r} {elsewhere!r}"


@pytest.mark.parametrize(
    ("url", "options", "reason"),
    [
        ("ftp://host/lake", {}, "neither a path nor one of s3, az, gs"),
        ("lake", {}, "neither a path"),
        ("s3://bucket", {"aws_nonsense": "x"}, "'aws_nonsense' is not valid"),
        ("s3://bucket", {"nonsense": "x"}, "Invalid key: nonsense"),
        ("s3://name:word@bucket/lake", {}, "keys belong into lake_options"),
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path: Path, url: str, options: dict[str, str], reason: str):
    """The error names the setting and the reason."""
    with pytest.raises(StorageRefused, match=f"^lake: .*{reason}"):
        locate(url, options, tmp_path)
    state = HubState(tmp_path)
    state.save(HubSettings(host_names=("localhost",), lake=url, lake_options=options))
    with pytest.raises(HubError, match=reason):
        _ = state.lake


def test_a_path_is_taken_as_it_is(tmp_path: Path):
    """Whatever characters are in it; none means the state directory."""
    for path in (tmp_path / "what?", tmp_path / "a#b", tmp_path / "100%25"):
        assert locate(str(path), {}, Path("/state")).uri == str(path)
    assert locate("", {}, tmp_path).uri == str(tmp_path / "lake")


def test_without_the_extra_an_object_store_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error names what to install."""
    monkeypatch.delitem(sys.modules, "vedette.hub.lake.objects")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(StorageRefused, match=r"needs the extra \[objects\]"):
        locate("s3://bucket/fleet", {}, tmp_path)


if __name__ == "__main__":
    url, options, scratch = json.loads(sys.argv[1])
    asyncio.run(ingest(Bucket(url, options, Path(scratch) / sys.argv[2]), sys.argv[2]))
