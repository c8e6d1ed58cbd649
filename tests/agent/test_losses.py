"""Losses add up by reason and are handed over once."""

from hypothesis import given
from hypothesis import strategies as st

from vedette.agent.losses import Loss, Losses

losses = st.builds(Loss, st.sampled_from("abc"), st.integers(0, 2**70), st.integers(0, 2**70))


@given(st.lists(losses))
def test_losses_add_up_by_reason(counted):
    """Totals are exact whatever their size, in the order in which reasons first occurred."""
    box = Losses()
    for loss in counted:
        box.count(loss.reason, events=loss.events, hits=loss.hits)
    real = [loss for loss in counted if loss.events or loss.hits]
    assert box.take() == [
        Loss(
            reason,
            sum(loss.events for loss in real if loss.reason == reason),
            sum(loss.hits for loss in real if loss.reason == reason),
        )
        for reason in dict.fromkeys(loss.reason for loss in real)
    ]


def test_losses_are_taken_once():
    """After `take` the totals start again from zero."""
    box = Losses()
    box.count("a", events=1, hits=2)
    assert box.take() == [Loss("a", 1, 2)]
    assert box.take() == []
    box.count("a", hits=1)
    assert box.take() == [Loss("a", 0, 1)]


def test_nothing_lost_is_no_loss():
    """A count of zero leaves no entry."""
    box = Losses()
    box.count("a")
    assert box.take() == []


@given(st.lists(losses), st.lists(losses))
def test_merging_is_counting(one, other):
    """What another place took can be added without loss."""
    direct, source, target = Losses(), Losses(), Losses()
    for loss in one + other:
        direct.count(loss.reason, events=loss.events, hits=loss.hits)
    target.merge(one)
    source.merge(other)
    target.merge(source.take())
    assert target.take() == direct.take()
