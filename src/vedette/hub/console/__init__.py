"""The console: pages in a browser, on the hub's HTTPS port."""

from vedette.hub.console.backend import Backend
from vedette.hub.console.mount import mount, open_backend

__all__ = ["Backend", "mount", "open_backend"]
