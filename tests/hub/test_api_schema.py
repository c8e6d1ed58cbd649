"""The hub's own API against its OpenAPI document: schemathesis asks all of it, rightly and wrongly."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
from api_rig import Rig, running
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from vedette.hub.api import v1
from vedette.hub.registry.tokens import Role
from vedette.wire.iothub import Identity

EXAMPLES = 40
"""Requests to each operation in each mode."""

# Not judged is whether what the document allows is accepted (`positive_data_acceptance`): it cannot say which
# texts are queries, and which keys may stand in a twin.

STREAM = "/events/stream"
"""Has no end, which the tool would wait for; see test_tail."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The API over a hub in a loop of its own: the tool calls it from this thread."""
    ready, stop = threading.Event(), asyncio.Event()
    made: list[Rig] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        async with running(tmp_path_factory.mktemp("hub")) as rig:
            for name in ("pump", "valve"):
                rig.registry.add(Identity(name))
                await rig.event("ls", name)
            made.append(rig)
            loops.append(asyncio.get_running_loop())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    yield made[0]
    loops[0].call_soon_threadsafe(stop.set)
    thread.join()


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("mode", GenerationMode)
def test_every_answer_is_as_the_document_says(rig: Rig, mode: GenerationMode):
    """Status, media type and body; wrong requests are refused, and none is an error of ours."""
    document = schemathesis.openapi.from_asgi(f"{v1.PREFIX}/openapi.json", rig.app)
    headers = {"Authorization": f"Bearer {rig.tokens[Role.ADMIN]}"}
    asked = set()
    for found in document.exclude(path=STREAM).get_all_operations():
        operation = found.ok()

        @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def conforms(case: schemathesis.Case) -> None:
            case.call_and_validate(headers=headers, excluded_checks=[positive_data_acceptance])

        with suppress(Unsatisfiable):  # an operation that no request can be wrong for
            conforms()
        asked.add(operation.label)
    assert len(asked) > 20
