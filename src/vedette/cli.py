"""The `vedette` command. Subcommands live in `vedette.commands`; each imports what it needs when it runs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from vedette import __version__
from vedette.commands import UsageError

ALL_COMMANDS = (
    *("up", "agent", "migrate", "hub", "token", "device", "enrollment", "authority", "twin"),
    *("query", "export", "alerts", "notify", "rules", "intel", "baseline", "sbom"),
)
"""In the order in which a newcomer needs them. Each is a module of `vedette.commands` with `add`."""

COMMANDS = tuple(name for name in ALL_COMMANDS if find_spec(f"vedette.commands.{name}"))
"""Those that are installed: a device carries the agent's only."""

EPILOG = """\
start here:
  vedette up                      hub and agent on this machine, with a live table
  vedette agent probe             what this machine's kernel offers
  vedette query 'Process | top 10 by HitCount'

Every command explains itself with --help."""


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or one command's part of it: an agent need not carry the hub's."""
    top = argparse.ArgumentParser(
        prog="vedette",
        description="Security micro agent for Linux IoT devices, and the hub that a fleet owner hosts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"vedette {__version__}")
    top.add_argument("-v", "--verbose", action="store_true", help="log details to standard error")
    subparsers = top.add_subparsers(metavar="COMMAND", required=True)
    for name in [only] if only in COMMANDS else COMMANDS:
        import_module(f"vedette.commands.{name}").add(subparsers)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 for a failure that was explained, or 2 for wrong usage."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = next((word for word in arguments if not word.startswith("-")), None)
    options = parser(command).parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        status: int = options.run(options)
    except UsageError as error:
        print(f"vedette: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("vedette"):
            raise
        print(
            f"vedette: this command needs the hub ({error.name} is missing): pip install 'vedette[hub]'",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        # The reader of our output has seen enough; leave nothing for the interpreter to flush into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
