"""A program for a network namespace of its own: what a registry does when PostgreSQL's host is gone.

Output: how each attempt ended, a line each, then what a later one answered.
"""

import subprocess
import sys
import threading
from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

import postgres
from vedette.hub.registry import schema


def network(state: str) -> None:
    """Everything here goes over the loopback device."""
    subprocess.run(["ip", "link", "set", "lo", state], check=True)


def ask(connection: Connection) -> None:
    """For more than the test waits."""
    try:
        connection.execute(text("SELECT pg_sleep(600)"))
    except (SQLAlchemyError, OSError) as error:
        print(type(error).__name__)
    network("up")
    connection.invalidate()


network("up")
schema.SILENCE_S = schema.PROBE_S = 1
programs = postgres.programs()
assert programs
with postgres.cluster(programs) as server:
    url = f"postgresql://{postgres.USER}@127.0.0.1:{server.port}/postgres"
    engine = schema.open_engine(url, Path(sys.argv[1]))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        network("down")
        ask(connection)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        threading.Timer(1, network, ["down"]).start()
        ask(connection)
    with engine.connect() as connection:
        print(connection.execute(text("SELECT 1")).scalar())
