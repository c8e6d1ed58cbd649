"""`vedette agent check`: could the agent do all its work here? Nothing is sent and nothing is changed."""

from __future__ import annotations

import asyncio
import os
import ssl

import msgspec

from vedette.agent.app import try_collectors
from vedette.agent.settings import Local, load_cached

CONNECT_S = 10.0
"""How long the hub may take to complete a TLS handshake."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked; `detail` says how it is done, or what to do about it."""

    what: str
    ok: bool
    detail: str


async def check(local: Local) -> list[Finding]:
    """Start every collector once, and reach for the hub."""
    return [*await _collectors(local), await _hub(local)]


async def _collectors(local: Local) -> list[Finding]:
    return [
        Finding(f"collector {status.name}", status.state in ("running", "off"), status.source or status.state)
        for status in await try_collectors(local.state, load_cached(local.state))
    ]


async def _hub(local: Local) -> Finding:
    """A TLS handshake. The credentials are not tried: a second login would end a running agent's."""
    host = local.connection.gateway or local.connection.host
    what = f"hub {host}:{local.port}"
    try:
        context = ssl.create_default_context(cafile=local.ca_file)
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(host, local.port, ssl=context)
        version = writer.get_extra_info("ssl_object").version()
        writer.close()
        await writer.wait_closed()
    except TimeoutError:
        return Finding(what, False, f"no answer within {CONNECT_S:.0f} s")
    except ssl.SSLCertVerificationError as error:
        return Finding(what, False, f"{error.verify_message}; is --ca the hub's pki/ca.pem?")
    except OSError as error:
        return Finding(what, False, os.strerror(error.errno) if error.errno else str(error))
    return Finding(what, True, f"{version}, certificate trusted")
