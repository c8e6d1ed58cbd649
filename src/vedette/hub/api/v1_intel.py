"""`/api/v1`: lists of what is known to be bad. Large files go in on the hub: `vedette intel import`."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Response, status
from pydantic import BaseModel, Field

from vedette.hub.api.caller import actor, needs
from vedette.hub.api.forms import Form, moment
from vedette.hub.detect.schema import Database
from vedette.hub.intel.formats import rated
from vedette.hub.intel.indicators import MAX_VALUE, Indicator, Kind, Refused, indicator
from vedette.hub.intel.store import Intel, IntelError, IntelList
from vedette.hub.registry.audit import acting_as
from vedette.hub.registry.tokens import Grant, Role, Tokens

MAX_ENTRIES = 50_000
"""Entries of one request: as many as fit into its body."""

MAX_SECONDS = 10 * 365 * 86400

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class NewList(Form):
    """A list's whole content. expires: seconds after which it is forgotten. source: where it is from."""

    entries: list[Annotated[str, Field(max_length=MAX_VALUE)]] = Field(min_length=1, max_length=MAX_ENTRIES)
    kind: Kind | None = None
    confidence: Annotated[int, Field(ge=0, le=100)] | None = None
    expires: Annotated[float, Field(gt=0, le=MAX_SECONDS)] | None = None
    source: Annotated[str, Field(max_length=200)] = ""


class ListForm(BaseModel):
    """A list. refused: reason → entries that could not be used."""

    name: str
    kind: str
    source: str
    imported: datetime
    entries: int
    refused: dict[str, int]


class HitForm(BaseModel):
    """An indicator that matches, and what its source says of it."""

    list: str
    kind: Kind
    value: str
    confidence: int | None
    expires: datetime | None
    note: str


def router(tokens: Tokens, database: Database) -> APIRouter:
    """The routes."""
    paths = APIRouter(tags=["intelligence"])
    analyst = Annotated[Grant, Depends(needs(Role.ANALYST, tokens))]
    operator = Annotated[Grant, Depends(needs(Role.OPERATOR, tokens))]
    intel = Intel(database)

    @paths.get("/intel/lists")
    def list_lists(_: analyst) -> list[ListForm]:
        """All lists."""
        return [_shown(one) for one in intel.lists()]

    @paths.put("/intel/lists/{name}")
    def put_list(caller: operator, name: Name, wanted: NewList) -> ListForm:
        """Make these the entries of a list, in place of what it had."""
        ends = time.time() + wanted.expires if wanted.expires else None
        entries = rated(_read(wanted), wanted.confidence, ends)
        with acting_as(actor(caller)):
            return _shown(intel.put_indicators(name, wanted.source or "api", entries))

    @paths.delete("/intel/lists/{name}", status_code=status.HTTP_204_NO_CONTENT)
    def remove_list(caller: operator, name: Name) -> Response:
        """Forget a list."""
        try:
            with acting_as(actor(caller)):
                intel.remove(name)
        except IntelError as error:
            raise HTTPException(status.HTTP_404_NOT_FOUND, str(error)) from None
        return Response(status_code=status.HTTP_204_NO_CONTENT)

    @paths.get("/intel/check")
    def check(_: analyst, value: Annotated[str, Query(min_length=1, max_length=MAX_VALUE)]) -> list[HitForm]:
        """Which lists know a value: an address, a name, a URL, a file's hash."""
        return [
            HitForm(
                list=hit.list,
                kind=hit.indicator.kind,
                value=hit.indicator.value,
                confidence=hit.indicator.confidence,
                expires=None if hit.indicator.expires is None else moment(hit.indicator.expires),
                note=hit.indicator.note,
            )
            for hit in intel.check(value)
        ]

    return paths


def _read(wanted: NewList) -> Iterator[Indicator | Refused]:
    for text in wanted.entries:
        try:
            yield indicator(text, wanted.kind)
        except Refused as refused:
            yield refused


def _shown(one: IntelList) -> ListForm:
    return ListForm(
        name=one.name,
        kind=one.kind,
        source=one.source,
        imported=moment(one.imported),
        entries=one.entries,
        refused=one.refused,
    )
