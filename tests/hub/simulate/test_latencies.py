"""Figures of a simulated fleet."""

import pytest

from vedette.hub.simulate.figures import Figures, Latencies


def test_quantiles_are_within_a_percent():
    """Of times from a millisecond to ten seconds."""
    latencies = Latencies()
    for milliseconds in range(1, 10_001):
        latencies.note(milliseconds / 1_000)
    assert latencies.quantile(0.5) == pytest.approx(5.0, rel=0.011)
    assert latencies.quantile(0.99) == pytest.approx(9.9, rel=0.011)


def test_nothing_counted_has_no_quantile():
    """There is no number then, rather than a zero."""
    assert Latencies().quantile(0.5) is None


def test_taken_figures_stay_and_counting_begins_again():
    """What is counted later is not in what was taken."""
    figures = Figures(messages=3)
    figures.lost["gone"] += 1
    taken = figures.take()
    figures.messages += 1
    figures.lost["again"] += 1
    assert (taken.messages, dict(taken.lost)) == (3, {"gone": 1})
    assert (figures.messages, dict(figures.lost)) == (1, {"again": 1})
