"""Files of advisories and lifecycles become lists. Those of indicators: `formats`, `store`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

from vedette.hub.detect.schema import Database
from vedette.hub.intel import lifecycles, osv
from vedette.hub.intel.store import Intel, IntelList, Tally


def import_advisories(
    database: Database,
    name: str,
    source: str,
    paths: Iterable[Path],
    told: Callable[[int], None] = lambda taken: None,
) -> IntelList:
    """Make OSV records, directories or zip files of them a list. Raises FormatError, IntelError.

    told: told now and then how many records have been read.
    """
    tally, intel = Tally(osv.MAX_STATEMENTS), Intel(database)
    parts = osv.by_package(chain.from_iterable(map(osv.records, paths)), tally, told)
    with intel.revision() as revision:
        intel.write(revision, parts)
        return intel.publish(name, "advisories", source, revision, tally)


def import_lifecycles(database: Database, name: str, source: str, paths: Iterable[Path]) -> IntelList:
    """Make files that say when distributions end a list. Raises FormatError, IntelError."""
    tally, intel = Tally(lifecycles.MAX_ENTRIES), Intel(database)
    entries = chain.from_iterable(map(lifecycles.read, paths))
    with intel.revision() as revision:
        intel.write(revision, lifecycles.parts(entries, tally))
        return intel.publish(name, "lifecycles", source, revision, tally)
