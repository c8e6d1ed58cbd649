"""What the HTTPS port answers: is the hub alive, and can it take messages."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Response, status

from vedette import __version__
from vedette.hub.registry.hubs import Role


def build(ready: Callable[[], str], role: Role = "all") -> FastAPI:
    """The application. `ready` returns an empty text, or why the hub cannot do its work now."""
    app = FastAPI(title="Vedette hub", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """The process runs and answers."""
        return {"status": "ok", "version": __version__, "role": role}

    @app.get("/readyz")
    async def readiness(response: Response) -> dict[str, str]:
        """Messages can be made durable, or a worker does its work; 503 with the reason if not."""
        if reason := ready():
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
            return {"status": "unavailable", "reason": reason}
        return {"status": "ready", "role": role}

    return app
