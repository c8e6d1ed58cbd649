"""How often a password may be tried."""

from vedette.hub.attempts import (
    FIRST_PAUSE_S,
    FREE_ATTEMPTS,
    LONGEST_PAUSE_S,
    MAX_KEYS,
    REMEMBERED_S,
    Attempts,
)


def test_some_failures_are_free_then_the_pause_doubles_up_to_its_limit():
    """Each further failure costs more, and waiting pays it off."""
    attempts = Attempts()
    for _ in range(FREE_ATTEMPTS - 1):
        attempts.failed("ana", 0.0)
    assert attempts.pause("ana", 0.0) == 0.0
    pauses = []
    for _ in range(12):
        attempts.failed("ana", 0.0)
        pauses.append(attempts.pause("ana", 0.0))
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert attempts.pause("ana", LONGEST_PAUSE_S) == 0.0
    assert attempts.pause("bob", 0.0) == 0.0


def test_success_and_time_forget_failures():
    """What was mistyped yesterday does not count today."""
    attempts = Attempts()
    for _ in range(FREE_ATTEMPTS):
        attempts.failed("ana", 0.0)
        attempts.failed("bob", 0.0)
    attempts.succeeded("ana")
    assert attempts.pause("ana", 0.0) == 0.0
    assert attempts.pause("bob", 1.0) > 0.0
    attempts.failed("bob", REMEMBERED_S + 1)
    assert attempts.pause("bob", REMEMBERED_S + 1) == 0.0


def test_memory_is_bounded_whatever_is_tried():
    """Of many keys the one that failed longest ago goes."""
    attempts = Attempts()
    for _ in range(FREE_ATTEMPTS):
        attempts.failed("first", 0.0)
        attempts.failed("again", 0.0)
    for i in range(MAX_KEYS - 2):
        attempts.failed(f"key {i}", 0.0)
    attempts.failed("again", 0.0)
    attempts.failed("one more", 0.0)
    assert attempts.pause("first", 0.0) == 0.0
    assert attempts.pause("again", 0.0) > 0.0
