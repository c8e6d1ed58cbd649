"""The accounts of the device with their groups. No password and no hash of one is ever told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import time
from typing import Literal, cast

from vedette.agent.baseline.accounts import Account, Group, accounts, groups, secrets
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.tree import DiskTree
from vedette.agent.collectors.snapshot import Part, SnapshotCollector
from vedette.agent.losses import MALFORMED, Losses
from vedette.agent.sources.files import MAX_TEXT
from vedette.wire.events import LocalUser, LocalUsers
from vedette.wire.twin import Priority, Settings

Password = Literal["", "set", "locked", "empty"]

MAX_GROUPS = 64
"""Groups told of one account; NFS knows 16, and people are in a dozen."""


class LocalUsersCollector(SnapshotCollector[LocalUser]):
    """Accounts of passwd. root: where the device's /etc is."""

    name = "LocalUsers"
    source = "passwd, group, shadow"

    def __init__(self, state: Path, *, root: Path = Path("/"), clock: Callable[[], float] = time) -> None:
        super().__init__(state, clock=clock)
        self._root = root

    def enabled(self, settings: Settings) -> bool:
        """False if the twin switches it off."""
        return not settings.local_users_disabled

    def priority(self, settings: Settings) -> Priority:
        """How soon its events are sent."""
        return settings.local_users_frequency

    def full_every(self, settings: Settings) -> int:
        """Days after which the users are told again."""
        return settings.local_users_full_every

    def read(self, losses: Losses) -> Iterator[LocalUser]:
        """The accounts that there are now."""
        device = Device(DiskTree(self._root))
        passwords = _passwords(device)
        known = groups(device)
        for account in accounts(device):
            if account.uid < 0 or account.gid < 0:
                losses.count(MALFORMED, hits=1)
                continue
            member_of = _groups_of(account, known)
            yield LocalUser(
                user_name=account.name[:MAX_TEXT],
                user_id=account.uid,
                group_ids=tuple(gid for gid, _ in member_of),
                group_names=tuple(name for _, name in member_of),
                home=account.home[:MAX_TEXT],
                shell=account.shell[:MAX_TEXT],
                password=passwords.get(account.name, "") if account.has_password else "empty",
            )

    def payload(self, part: Part[LocalUser]) -> LocalUsers:
        """The event that tells a part."""
        return LocalUsers(snapshot_id=part.snapshot_id, part=part.number, parts=part.of, users=part.items)


def _passwords(device: Device) -> dict[str, Password]:
    """State of the password by account; empty where the agent may not read shadow."""
    try:
        return {name: cast("Password", secret.state) for name, secret in secrets(device).items()}
    except OSError:
        return {}


def _groups_of(account: Account, known: list[Group]) -> list[tuple[int, str]]:
    """(id, name) of its groups, the primary one first, which has no name if the file does not list it."""
    primary = next((group.name for group in known if group.gid == account.gid), "")
    others = [
        (group.gid, group.name[:MAX_TEXT])
        for group in known
        if group.gid >= 0 and group.gid != account.gid and account.name in group.members
    ]
    return [(account.gid, primary[:MAX_TEXT]), *others][:MAX_GROUPS]
