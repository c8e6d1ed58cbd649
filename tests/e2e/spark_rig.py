"""Engines on loopback: Sail; a Spark master with two workers and a Connect server, each a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from spark_venv import HOME

STARTED_S = 120.0
"""Longest start of one process: a Java virtual machine on a busy machine."""

SITE = next(iter(HOME.glob("lib/python*/site-packages")), HOME)


class Cluster(NamedTuple):
    """master: its URL. remote: of the Connect server, which is an application of it."""

    master: str
    remote: str


@contextmanager
def sail(logs: Path) -> Iterator[str]:
    """A Sail server; its URL."""
    command = [str(HOME / "bin" / "sail"), "spark", "server", "--ip", "127.0.0.1", "--port", "0"]
    with _running(command, logs / "sail.log", r"Spark Connect server on 127\.0\.0\.1:(\d+)") as port:
        yield f"sc://127.0.0.1:{port}"


@contextmanager
def cluster(logs: Path) -> Iterator[Cluster]:
    """A Spark standalone cluster with two workers of one processor each, and a Connect server on it."""
    java = str(SITE / "pyspark" / "bin" / "spark-class")
    deploy = "org.apache.spark.deploy"
    here = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
    with ExitStack() as stack:
        command = [java, f"{deploy}.master.Master", *here]
        master = stack.enter_context(_running(command, logs / "master.log", r"master at (spark://[\d.:]+)"))
        for number in (1, 2):
            work = ["--cores", "1", "--memory", "1g", "--work-dir", str(logs / f"work{number}")]
            command = [java, f"{deploy}.worker.Worker", *here, *work, master]
            stack.enter_context(
                _running(command, logs / f"worker{number}.log", r"Successfully (registered) with")
            )
        submit = [java, f"{deploy}.SparkSubmit", "--master", master, *_CONNECT, "spark-internal"]
        port = stack.enter_context(_running(submit, logs / "connect.log", r"server started at: [\d.]+:(\d+)"))
        yield Cluster(master, f"sc://127.0.0.1:{port}")


def environment() -> dict[str, str]:
    """For a process of Spark's: of the variables that a Connect session leaves behind, none."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    return kept | {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_HOME": str(SITE / "pyspark")}


_SETTINGS = {
    "spark.connect.grpc.binding.address": "127.0.0.1",
    "spark.connect.grpc.binding.port": "0",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.cores.max": "1",  # leaves the other worker to a classic session
    "spark.executor.memory": "512m",
    "spark.sql.shuffle.partitions": "4",
}
_CONNECT = [
    "--class",
    "org.apache.spark.sql.connect.service.SparkConnectServer",
    *(part for name, value in _SETTINGS.items() for part in ("--conf", f"{name}={value}")),
]


@contextmanager
def _running(command: Sequence[str], log: Path, started: str) -> Iterator[str]:
    """A process that has said that it started; what the pattern's group found."""
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment(), start_new_session=True
        ) as process,
    ):
        try:
            yield _found(process, log, started)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(STARTED_S)


def _found(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    end = time.monotonic() + STARTED_S
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(f"did not start: {log.read_text(errors='replace')[-2000:]}")
