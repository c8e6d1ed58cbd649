"""`/api/v1`: questions to the event tables, exports, and events as they come."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import IO, Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Query, Response, status
from fastapi.responses import StreamingResponse

from vedette.hub.api.caller import needs
from vedette.hub.api.forms import ID_PATTERN, Answer, Question
from vedette.hub.lake import Lake, Limits, QueryError, Result
from vedette.hub.lake.export import MEDIA_TYPES, Form, export, file_name
from vedette.hub.lake.tables import RawEvent
from vedette.hub.registry.tokens import Grant, Role, Tokens
from vedette.hub.tail import Tail, TailFull

QUERY_THREADS = 2
"""Queries at a time: each may use 512 MB and two threads of its own."""

MAX_QUERIES = 10
"""Queries that run or wait; a further one is told to come back."""

BUSY_RETRY_S = "5"

HEARTBEAT_S = 15.0
"""Silence of a live tail before a comment shows that it lives: below what proxies cut at."""

CHUNK_BYTES = 262_144

MAX_ROWS = 10_000
"""Rows of one listing."""

T = TypeVar("T")

_FILTERS = {
    "device_id": "DeviceId = $device_id",
    "module_id": "ModuleId = $module_id",
    "name": "RawEventName = $name",
    "since": "TimeGenerated >= $since",
    "until": "TimeGenerated < $until",
}


class Queries:
    """The lake, asked by a bounded number of threads."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._threads = ThreadPoolExecutor(QUERY_THREADS, "query")
        self.running = 0

    async def ask(self, work: Callable[[Lake], T]) -> T:
        """What `work` finds in the lake. Raises QueryError; HTTPException (503) if too many are asking."""
        if self.running >= MAX_QUERIES:
            raise HTTPException(
                status.HTTP_503_SERVICE_UNAVAILABLE,
                "too many queries at a time",
                {"Retry-After": BUSY_RETRY_S},
            )
        self.running += 1
        future = self._threads.submit(work, self._lake)
        future.add_done_callback(self._done)
        return await asyncio.wrap_future(future)

    def _done(self, future: Future[Any]) -> None:
        """One place is free: when the thread is, not when the caller has gone away."""
        self.running -= 1

    def close(self) -> None:
        """Let those that run come to an end."""
        self._threads.shutdown(cancel_futures=True)


def router(tokens: Tokens, queries: Queries, tail: Tail) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["events"])
    viewer = Depends(needs(Role.VIEWER, tokens))
    analyst = Annotated[Grant, Depends(needs(Role.ANALYST, tokens))]

    @routes.post("/query", response_model=Answer)
    async def query(_: analyst, question: Question) -> Response:
        """Answer a question in KQL or SQL."""
        return _answer(await queries.ask(lambda lake: lake.query(question.query, question.language)))

    @routes.get("/events", response_model=Answer)
    async def events(
        _: analyst,
        device_id: Annotated[str, Query(pattern=ID_PATTERN)] | None = None,
        module_id: Annotated[str, Query(pattern=ID_PATTERN)] | None = None,
        name: Annotated[str, Query(max_length=64)] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
    ) -> Response:
        """The newest events that were received, of a device, a name, a time."""
        given = {
            "device_id": device_id,
            "module_id": module_id,
            "name": name,
            "since": since,
            "until": until,
        }
        return _answer(await _newest(queries, "SecurityIoTRawEvent", given, limit))

    for path, table, what in (
        ("/alerts", "SecurityAlert", "The newest alerts."),
        ("/recommendations", "SecurityRecommendation", "The newest recommendations."),
        ("/vulnerabilities", "SoftwareVulnerability", "Known vulnerabilities of the software of devices."),
        ("/dead-letters", "dead_letters", "The newest messages that could not be read, with the reason."),
    ):
        _listing(routes, queries, path, table, what, viewer)

    @routes.post(
        "/export",
        response_class=Response,
        responses={200: {"description": "The file.", "content": {kind: {} for kind in _MEDIA}}},
    )
    async def export_rows(_: analyst, question: Question, form: Form = "csv") -> Response:
        """All rows of a question as a file: CSV, newline-delimited JSON, Parquet; events as OCSF or ECS."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by what sends it
        try:
            await queries.ask(lambda lake: export(lake, question.query, question.language, form, file))
        except BaseException:
            file.close()
            raise
        name = f'attachment; filename="{file_name(form)}"'
        return StreamingResponse(
            _chunks(file), media_type=MEDIA_TYPES[form], headers={"Content-Disposition": name}
        )

    @routes.get(
        "/events/stream",
        response_class=Response,
        responses={200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}}},
    )
    async def stream(
        _: analyst,
        device_id: Annotated[str, Query(pattern=ID_PATTERN)] | None = None,
        name: Annotated[str, Query(max_length=64)] | None = None,
    ) -> Response:
        """Events as they are stored, by any hub: `event: raw`, and `event: lost` if you read too slowly."""
        looking = tail.reader(device_id or "", name or "")
        try:
            reader = looking.__enter__()  # refuse before the answer has begun
        except TailFull:
            raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, "too many live tails") from None

        async def lines() -> AsyncIterator[bytes]:
            try:
                yield b": live\n\n"
                async for batch, lost in reader.batches(HEARTBEAT_S):
                    yield b"".join(_lines(batch, lost))
            finally:
                looking.__exit__(None, None, None)

        return StreamingResponse(
            lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    return routes


_MEDIA = dict.fromkeys(kind.partition(";")[0] for kind in MEDIA_TYPES.values())


def _listing(routes: APIRouter, queries: Queries, path: str, table: str, what: str, guard: Any) -> None:
    """A table's newest rows under a path of their own."""

    @routes.get(path, response_model=Answer, summary=what, dependencies=[guard], name=path.strip("/"))
    async def rows(
        device_id: Annotated[str, Query(pattern=ID_PATTERN)] | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
    ) -> Response:
        column = "CompromisedEntity" if table == "SecurityAlert" else "DeviceId"
        return _answer(await _newest(queries, table, {"device_id": device_id}, limit, column))


async def _newest(
    queries: Queries, table: str, given: dict[str, Any], limit: int, device_column: str = "DeviceId"
) -> Result:
    parameters = {name: value for name, value in given.items() if value is not None}
    conditions = [_FILTERS[name].replace("DeviceId", device_column) for name in parameters]
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    text = f"SELECT * FROM {table} {where}ORDER BY TimeGenerated DESC"  # noqa: S608 - all of it is ours
    limits = Limits(rows=limit)
    return await queries.ask(lambda lake: lake.query(text, "sql", limits=limits, parameters=parameters))


def _answer(result: Result) -> Response:
    return Response(
        msgspec.json.encode(
            {"columns": result.columns, "rows": result.rows, "truncated": result.truncated}, enc_hook=str
        ),
        media_type="application/json",
    )


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _lines(batch: list[RawEvent], lost: int) -> Iterator[bytes]:
    """A batch as server-sent events; a comment if there is none."""
    if not batch:
        yield b": quiet\n\n"
    if lost:
        yield b'event: lost\ndata: {"events":%d}\n\n' % lost
    for event in batch:
        yield b"event: raw\ndata: " + msgspec.json.encode(event._asdict()) + b"\n\n"


__all__ = ["Queries", "QueryError", "router"]
