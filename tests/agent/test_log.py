"""The agent's own warnings and errors become events: counted, bounded, without secrets."""

import logging
import threading
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.collectors.log import LOGGER, MAX_DISTINCT, MAX_MESSAGE, LogCollector, payload
from vedette.agent.losses import CACHE_FULL, Loss
from vedette.wire.events import Log
from vedette.wire.twin import Settings

log = logging.getLogger(f"{LOGGER}.test")


@pytest.fixture
async def collector() -> AsyncIterator[LogCollector]:
    """A collector that listens."""
    collector = LogCollector()
    await collector.start(Settings())
    yield collector
    await collector.stop()


async def told(collector: LogCollector) -> list[tuple[Log, int]]:
    """Payload and hit count of the events of one cycle."""
    collected = await collector.collect()
    assert collected.losses == []
    return [(event.payload, event.hits) for event in collected.events]


async def test_a_warning_becomes_an_event(collector: LogCollector):
    """Level, logger, template and the message as it was first written."""
    log.warning("%s cannot be read", "/etc/shadow")
    assert await told(collector) == [
        (
            Log(
                level="WARNING",
                logger="vedette.test",
                template="%s cannot be read",
                message="/etc/shadow cannot be read",
            ),
            1,
        )
    ]


async def test_what_differs_in_its_arguments_only_is_counted(collector: LogCollector):
    """A fault that repeats costs one event; another level or template is another event."""
    for attempt in range(50):
        log.warning("attempt %d failed", attempt)
    log.error("attempt %d failed", 50)
    log.warning("gave up")
    assert [(entry.level, entry.message, hits) for entry, hits in await told(collector)] == [
        ("WARNING", "attempt 0 failed", 50),
        ("ERROR", "attempt 50 failed", 1),
        ("WARNING", "gave up", 1),
    ]
    assert await told(collector) == []


async def test_what_is_said_in_passing_is_not_told(collector: LogCollector):
    """Information and other programs' logs stay on the device."""
    log.info("started")
    logging.getLogger("elsewhere").error("not ours")
    assert await told(collector) == []


async def test_an_exception_is_told_by_type_and_place(collector: LogCollector):
    """Its text may quote what was being handled, and is left out."""
    try:
        raise ValueError("the password is tiger")
    except ValueError:
        log.exception("a collector failed")
    ((entry, _),) = await told(collector)
    assert entry.level == "ERROR"
    assert entry.exception.startswith("ValueError at test_log.py:")
    assert "tiger" not in repr(entry)


@pytest.mark.parametrize(
    "message",
    [
        "connecting with HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0dGlnZXI=",
        "password: tiger refused",
        "SharedAccessSignature sr=tiger&sig=tiger&se=1 expired",
        "proxy 10.0.0.1,3128 Token=tiger",
        "/sub?sig=tiger",
    ],
)
async def test_what_looks_like_a_secret_is_blotted_out(collector: LogCollector, message: str):
    """In the message and in the template, should one ever be logged."""
    log.warning(message)
    log.warning("refused: %s", message)
    for entry, _ in await told(collector):
        assert "tiger" not in repr(entry)
        assert "c2VjcmV0" not in repr(entry)
        assert "***" in entry.message


async def test_a_storm_keeps_what_came_first_and_counts_the_rest(collector: LogCollector):
    """Bounded, and the cache's own warning about it does not feed the storm."""
    for number in range(MAX_DISTINCT + 10):
        log.warning(f"message {number}")  # a template of its own, as a careless caller would write it
    events, losses = await collector.collect()
    assert [event.payload.message for event in events] == [f"message {n}" for n in range(MAX_DISTINCT)]
    assert losses == [Loss(CACHE_FULL, 10, 10)]


async def test_messages_of_many_threads_are_all_counted(collector: LogCollector):
    """The MQTT client logs from a thread of its own."""

    def complain() -> None:
        for _ in range(500):
            log.warning("lost")

    threads = [threading.Thread(target=complain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [hits for _, hits in await told(collector)] == [2000]


async def test_stopped_it_hears_nothing():
    """The last messages are handed over, and the logger is left as it was."""
    before = list(logging.getLogger(LOGGER).handlers)
    collector = LogCollector()
    await collector.start(Settings())
    log.warning("heard")
    assert [event.payload.message for event in (await collector.stop()).events] == ["heard"]
    log.warning("unheard")
    assert (await collector.collect()).events == []
    assert logging.getLogger(LOGGER).handlers == before


async def test_the_twin_switches_it_off():
    """LogCollector_Disabled."""
    assert not LogCollector().enabled(Settings(log_disabled=True))
    assert LogCollector().enabled(Settings())


async def test_a_malformed_call_disturbs_nothing(
    collector: LogCollector, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Arguments that do not fit their template are reported on standard error, as `logging` does."""
    monkeypatch.setattr(log, "propagate", True)
    record = log.makeRecord(log.name, logging.WARNING, __file__, 1, "%d", ("x",), None)
    for handler in logging.getLogger(LOGGER).handlers:
        handler.handle(record)
    assert await told(collector) == []
    assert "Logging error" in capsys.readouterr().err


@given(st.text(max_size=2 * MAX_MESSAGE), st.integers(30, 60))
def test_any_text_makes_a_bounded_event(text: str, level: int):
    """Messages are cut, levels are one of three."""
    record = logging.LogRecord("vedette.x", level, __file__, 1, text, None, None)
    entry = payload(record)
    assert len(entry.message) <= MAX_MESSAGE
    assert entry.level in ("WARNING", "ERROR", "CRITICAL")
