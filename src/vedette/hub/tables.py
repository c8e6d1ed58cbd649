"""Every table of the registry database, declared by importing the module that has it.

Whoever opens the database first makes all of them, so that no part depends on another having been there.
A module that declares a table stands here.
"""

from vedette.hub.detect import schema as detection
from vedette.hub.intel import schema as intelligence
from vedette.hub.notify import schema as notifications
from vedette.hub.registry import store as registry

__all__ = ["detection", "intelligence", "notifications", "registry"]
