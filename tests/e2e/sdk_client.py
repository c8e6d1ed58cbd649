"""The official device SDK as a subprocess that a test talks to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway_rig import pki
from support import PATIENCE_S


class Sdk:
    """The subprocess that the SDK runs in."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._kept: list[dict[str, Any]] = []

    async def event(self, name: str) -> dict[str, Any]:
        """The next event of that name; others are kept for later."""
        for said in self._kept:
            if said["event"] == name:
                self._kept.remove(said)
                return said
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while line := await self.process.stdout.readline():
                said = json.loads(line)
                if said["event"] == name:
                    return said
                self._kept.append(said)
        raise AssertionError(f"the SDK ended before {name}")

    async def do(self, name: str, *arguments: Any) -> dict[str, Any]:
        """The outcome of a call."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": name, "with": arguments}).encode() + b"\n")
        return await self.event(name)


@asynccontextmanager
async def sdk_client(python: Path, connection: str, port: int, *flags: str) -> AsyncIterator[Sdk]:
    """A client in the SDK's environment. flags: see `sdk_module`."""
    process = await asyncio.create_subprocess_exec(
        python,
        Path(__file__).parent / "sdk_module.py",
        connection,
        pki().ca,
        str(port),
        *flags,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Sdk(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
