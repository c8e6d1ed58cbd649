"""Makes `tests/support.py` importable from every test, and frees property tests from the clock."""

from hypothesis import settings

# A deadline an example says how busy the machine is, not whether the code is right.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
