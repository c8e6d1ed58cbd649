"""What the HTTPS port answers: is the hub alive, and can it take messages."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Response, status

from vedette import __version__


def build(ready: Callable[[], str]) -> FastAPI:
    """The application. `ready` returns an empty text, or why the hub cannot take messages now."""
    app = FastAPI(title="Vedette hub", version=__version__, docs_url=None, redoc_url=None)

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """The process runs and answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/readyz")
    async def readiness(response: Response) -> dict[str, str]:
        """Messages can be made durable; 503 with the reason if not."""
        if reason := ready():
            response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
            return {"status": "unavailable", "reason": reason}
        return {"status": "ready"}

    return app
