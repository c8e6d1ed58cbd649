"""Daily quotas: what counts, when it is spent, and how it lasts over restarts and gateways."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vedette.hub.limits import Limits
from vedette.hub.meter import EVERYBODY, Meter, day_of
from vedette.hub.registry import Registry

MIDNIGHT = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


@given(st.lists(st.integers(0, 262_144), max_size=20), st.integers(1, 100))
def test_a_quota_is_exceeded_by_one_message_at_most(sizes: list[int], quota: int):
    """In units of 4 KB begun: what is admitted began within it."""
    meter, used = Meter(Limits(daily_units=quota)), 0
    for size in sizes:
        assert meter.spent("pump", MIDNIGHT) is (used >= quota)
        if used < quota:
            meter.count("pump", size, MIDNIGHT)
            used += max(1, -(-size // 4_096))
    assert meter.usage(MIDNIGHT).units == used


def test_a_device_has_its_own_quota():
    """One that has spent it does not take it from others; without limits nothing is ever spent."""
    meter, free = Meter(Limits(daily_units_per_device=2)), Meter(Limits())
    for _ in range(2):
        meter.count("pump", 1, MIDNIGHT)
        free.count("pump", 1, MIDNIGHT)
    assert meter.spent("pump", MIDNIGHT)
    assert not meter.spent("valve", MIDNIGHT)
    assert not free.spent("pump", MIDNIGHT)


def test_midnight_gives_a_new_quota_and_a_clock_set_back_none():
    """By UTC."""
    meter = Meter(Limits(daily_units=1))
    meter.count("pump", 1, MIDNIGHT - 1)
    assert meter.spent("pump", MIDNIGHT - 1)
    assert not meter.spent("pump", MIDNIGHT)
    meter.count("pump", 1, MIDNIGHT)
    assert meter.spent("pump", MIDNIGHT - 1)
    assert meter.take() == {("2025-12-31", EVERYBODY): 1, ("2026-01-01", EVERYBODY): 1}


def test_gateways_share_what_the_registry_keeps(url: str, tmp_path: Path):
    """Sums are added up, learned by the others, and none is lost when writing fails; old days go."""
    registry = Registry(url, tmp_path / "key")
    limits = Limits(daily_units=3, daily_units_per_device=3)
    one, other, day = Meter(limits), Meter(limits), day_of(MIDNIGHT)
    one.count("pump", 1, MIDNIGHT)
    other.count("pump", 5_000, MIDNIGHT)
    kept = one.take()
    one.give_back(kept)
    for meter in (one, other):
        registry.usage.add(meter.take())
    for who in (EVERYBODY, "pump"):
        assert registry.usage.units(day, who) == 3
    assert not one.spent("pump", MIDNIGHT)
    one.learn(day, EVERYBODY, 3)
    assert one.spent("valve", MIDNIGHT)
    registry.usage.add({(day_of(MIDNIGHT + 2 * 86_400), "pump"): 1})
    assert (registry.usage.units(day, "pump"), registry.usage.units(day)) == (0, 3)
    registry.close()
