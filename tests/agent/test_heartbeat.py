"""The agent's sign of life."""

from pathlib import Path

from vedette.agent.collectors.heartbeat import HeartbeatCollector
from vedette.wire.events import Event, Heartbeat
from vedette.wire.twin import Settings

ROOTFS = Path(__file__).parent.parent / "fixtures" / "rootfs"


async def test_a_heartbeat_tells_uptimes_boot_and_configuration():
    """Whole seconds; the version of the twin at this moment."""
    version, uptime = 3, 100.0
    collector = HeartbeatCollector(
        lambda: version, root=ROOTFS / "pc", monotonic=lambda: uptime, clock=lambda: 1.8e9
    )
    await collector.start(Settings())
    version, uptime = 4, 160.9
    assert await collector.collect() == (
        [
            Event(
                Heartbeat(
                    agent_uptime=60,
                    system_uptime=86461,
                    boot_id="6f8c1e7a-4f0b-4a55-9f2f-1c9d2f6f0a01",
                    config_version=4,
                ),
                1.8e9,
            )
        ],
        [],
    )


async def test_every_cycle_has_a_heartbeat_even_where_proc_is_missing(tmp_path: Path):
    """It says that the agent is alive; all else is extra."""
    collector = HeartbeatCollector(root=tmp_path)
    await collector.start(Settings())
    for _ in range(2):
        ((event,), losses) = await collector.collect()
        assert event.payload.boot_id == ""
        assert losses == []
    assert (await collector.stop()).events == []


async def test_on_this_machine_it_names_this_boot():
    """As the kernel tells it."""
    collector = HeartbeatCollector()
    await collector.start(Settings())
    ((event,), _) = await collector.collect()
    assert event.payload.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert event.payload.system_uptime > 0
