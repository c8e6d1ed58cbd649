"""Makes `tests/support.py` importable from every test, and frees property tests from the clock."""

import signal

from hypothesis import settings

# A deadline an example says how busy the machine is, not whether the code is right.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

# What a shell starts in the background ignores these signals, and so would the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
