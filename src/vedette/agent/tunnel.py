"""A TCP connection that an HTTP proxy makes for us (CONNECT, RFC 9110 9.3.6), with Basic credentials or none.

Imported by those who use it only.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket

from vedette.agent.route import Proxy

MAX_ANSWER_BYTES = 8_192
"""Of the proxy's answer: a status line and some headers."""

REASONS = {
    403: "it does not allow this address and port",
    401: "it wants other credentials (IothubModule_ProxyConfig)",  # what tinyproxy says for 407
    407: "it wants other credentials (IothubModule_ProxyConfig)",
    502: "it cannot reach the hub",
    503: "it cannot reach the hub",
    504: "the hub does not answer it",
}


async def open_tunnel(proxy: Proxy, host: str, port: int) -> socket.socket:
    """A socket that is connected to `host`, for TLS to begin on.

    Raises OSError, whose text names the proxy and holds no credentials.
    """
    plain = await _connected(proxy)
    try:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(plain, _request(proxy, host, port))
        answer = await _head(plain)
        _judge(proxy, answer)
    except BaseException:
        plain.close()
        raise
    return plain


async def _connected(proxy: Proxy) -> socket.socket:
    """To the first of the proxy's addresses that takes us."""
    loop = asyncio.get_running_loop()
    problem = "no address"
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        proxy.host, proxy.port, type=socket.SOCK_STREAM
    ):
        plain = socket.socket(family, kind, protocol)
        plain.setblocking(False)
        try:
            await loop.sock_connect(plain, address)
        except OSError as error:
            plain.close()
            problem = os.strerror(error.errno) if error.errno else str(error)
        except BaseException:
            plain.close()
            raise
        else:
            return plain
    raise OSError(f"proxy {proxy.host}:{proxy.port}: {problem}")


def _request(proxy: Proxy, host: str, port: int) -> bytes:
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.user:
        credentials = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _head(plain: socket.socket) -> bytes:
    """The answer up to its empty line. Nothing can follow: the far side waits for our TLS greeting."""
    loop = asyncio.get_running_loop()
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < MAX_ANSWER_BYTES:
        piece = await loop.sock_recv(plain, MAX_ANSWER_BYTES - len(answer))
        if not piece:
            break
        answer += piece
    return answer


def _judge(proxy: Proxy, answer: bytes) -> None:
    """Raise unless the proxy consents."""
    head, end, rest = answer.partition(b"\r\n\r\n")
    version, _, status = head.partition(b"\r\n")[0].partition(b" ")
    code = int(status[:3]) if status[:3].isdigit() else 0
    consents = 200 <= code < 300
    if not end or not version.startswith(b"HTTP/1.") or (consents and rest):
        reason = "no answer that HTTP knows"
    elif consents:
        return
    else:
        reason = f"status {code}" + (f", {REASONS[code]}" if code in REASONS else "")
    raise OSError(f"proxy {proxy.host}:{proxy.port}: {reason}")
