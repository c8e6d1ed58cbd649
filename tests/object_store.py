"""Object stores on loopback: moto's S3 server and Azurite, each from a directory of its own that git ignores.

Run as a program with `moto` or `azurite` and a port it serves until it is killed, and says when it listens.
"""

from __future__ import annotations

import base64
import fcntl
import hmac
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

from support import free_port

MOTO = ("moto==5.2.5", "flask==3.1.3", "flask-cors==6.0.5")
AZURITE = "azurite@3.35.0"
ROOT = Path(__file__).parents[1]
READY_S = 60.0
AZURITE_ADDRESS = "AZURITE_BLOB_STORAGE_URL"

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What every installation of the emulator has, as its documentation says."""

_SERVE_S3 = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"


class CannotInstall(Exception):
    """The emulator is not to be had here; the text says why."""


class Emulator:
    """A server that can be stopped and started again on its port. options: as in the lake's settings."""

    def __init__(self, command: list[str], options: dict[str, str], url: str) -> None:
        self.options = options
        self.url = url
        self._command = command
        self._port = int(command[-1])
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"{self._command[0]} does not listen")

    def signal(self, number: int) -> None:
        """Stop it (SIGSTOP: requests then hang), or let it go on."""
        assert self._process is not None, "it runs"
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stop it. Azurite needs the notice: it writes what it has acknowledged only every few seconds."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait()
            self._process = None


@contextmanager
def s3(bucket: str = "lake") -> Iterator[Emulator]:
    """An S3 server with an empty bucket. It forgets everything when it is stopped."""
    port = free_port()
    options = {
        "aws_endpoint_url": f"http://127.0.0.1:{port}",
        "aws_access_key_id": "tester",
        "aws_secret_access_key": "not-so-secret",
        "aws_region": "us-east-1",
        "allow_http": "true",
    }
    server = Emulator([str(moto()), "-c", _SERVE_S3, str(port)], options, f"s3://{bucket}/fleet")
    server.start()
    try:
        make_bucket(server, bucket)
        yield server
    finally:
        server.stop()


def make_bucket(server: Emulator, bucket: str = "lake") -> None:
    """Make the bucket in a fresh S3 server."""
    address = f"{server.options['aws_endpoint_url']}/{bucket}"
    urllib.request.urlopen(urllib.request.Request(address, method="PUT")).close()


@contextmanager
def azure(state: Path, container: str = "lake") -> Iterator[Emulator]:
    """An Azure Blob server with an empty container. It keeps what it has while it is stopped.

    The client has to know that it is the emulator, which lists its blobs in a way of its own, and takes the
    emulator's address from the environment.
    """
    port = free_port()
    options = {"azure_storage_use_emulator": "true", "allow_http": "true"}
    address = f"http://127.0.0.1:{port}"
    program = azurite() / ".bin" / "azurite-blob"
    arguments = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", str(state)]
    server = Emulator(
        [str(program), *arguments, "--blobHost", "127.0.0.1", "--blobPort", str(port)],
        options,
        f"az://{container}/fleet",
    )
    server.start()
    os.environ[AZURITE_ADDRESS] = address
    try:
        make_container(address, container)
        yield server
    finally:
        del os.environ[AZURITE_ADDRESS]
        server.stop()


def make_container(address: str, container: str) -> None:
    """Make a container, with the signature that the service asks for."""
    now = formatdate(usegmt=True)
    headers = f"x-ms-date:{now}\nx-ms-version:2021-12-02"
    # Eleven standard headers, all empty, stand between the verb and the service's own.
    signed = "PUT" + "\n" * 12 + f"{headers}\n/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
    digest = hmac.digest(base64.b64decode(KEY), signed.encode(), "sha256")
    request = urllib.request.Request(
        f"{address}/{ACCOUNT}/{container}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": now,
            "x-ms-version": "2021-12-02",
            "Content-Length": "0",
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        },
    )
    urllib.request.urlopen(request).close()


def moto() -> Path:
    """The interpreter of an environment with moto in it; made on the first call. Raises CannotInstall."""
    home = ROOT / ".venv-moto"
    python = home / "bin" / "python"
    with _filling(home, str(MOTO)) as empty:
        if empty:
            _run([sys.executable, "-m", "venv", str(home)])
            _run([str(python), "-m", "pip", "install", "--quiet", *MOTO])
    return python


def azurite() -> Path:
    """The directory of the modules with Azurite; filled on the first call. Raises CannotInstall."""
    home = ROOT / ".venv-azurite"
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise CannotInstall(f"{program} is not installed")
    with _filling(home, AZURITE) as empty:
        if empty:
            quiet = ["--no-audit", "--no-fund", "--ignore-scripts"]
            _run(["npm", "install", *quiet, "--prefix", str(home), AZURITE])
    return home / "node_modules"


@contextmanager
def _filling(home: Path, wanted: str) -> Iterator[bool]:
    """One process after the other; whether the directory still has to be filled."""
    home.mkdir(exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        filled = home / ".filled"
        empty = not filled.exists() or filled.read_text() != wanted
        yield empty
        if empty:
            filled.write_text(wanted)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise CannotInstall(f"{command[-1]} cannot be installed: {last}")
