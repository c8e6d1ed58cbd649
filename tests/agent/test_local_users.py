"""Accounts with their groups, and never a hash."""

from pathlib import Path

import msgspec

from vedette.agent.collectors.local_users import LocalUsersCollector
from vedette.agent.losses import MALFORMED, Loss
from vedette.wire.events import LocalUser, LocalUsers
from vedette.wire.twin import Settings

ROOTFS = Path(__file__).parent.parent / "fixtures" / "rootfs"


async def users(state: Path, root: Path) -> dict[str, LocalUser]:
    """The accounts of one snapshot by name."""
    collector = LocalUsersCollector(state, root=root)
    await collector.start(Settings())
    ((event,), losses) = await collector.collect()
    assert losses == []
    assert isinstance(event.payload, LocalUsers)
    return {user.user_name: user for user in event.payload.users}


async def test_an_account_is_told_with_its_groups(tmp_path: Path):
    """The primary group first, then those that list it."""
    assert (await users(tmp_path, ROOTFS / "pc"))["warden"] == LocalUser(
        user_name="warden",
        user_id=1000,
        group_ids=(1000, 27, 46),
        group_names=("warden", "sudo", "plugdev"),
        home="/home/warden",
        shell="/bin/bash",
        password="set",
    )


async def test_the_password_is_told_by_its_state_only(tmp_path: Path):
    """Set, locked, empty, or nothing where shadow cannot be read."""
    told = await users(tmp_path, ROOTFS / "pc")
    assert {name: user.password for name, user in told.items()} == {
        "root": "locked",
        "daemon": "locked",
        "sshd": "locked",
        "warden": "set",
        "guest": "empty",
    }
    assert (await users(tmp_path / "2", ROOTFS / "raspberrypi"))["pi"].password == ""


async def test_no_hash_leaves_the_device(tmp_path: Path):
    """Not in the event, not in the remembered state."""
    told = await users(tmp_path, ROOTFS / "pc")
    (state,) = tmp_path.iterdir()
    for content in (msgspec.json.encode(told), state.read_bytes()):
        assert b"$y$" not in content
        assert b"Zml4dHVyZS" not in content


async def test_a_new_password_is_no_change_but_an_unlocked_account_is(tmp_path: Path):
    """Only the state of a password matters."""
    etc = tmp_path / "root/etc"
    etc.mkdir(parents=True)
    (etc / "passwd").write_text("pi:x:1000:1000::/home/pi:/bin/sh\n")
    collector = LocalUsersCollector(tmp_path, root=tmp_path / "root")
    await collector.start(Settings())
    seen = []
    for field in ("$6$one", "$6$two", "!$6$two", ""):
        (etc / "shadow").write_text(f"pi:{field}:19700:0:99999:7:::\n")
        events = (await collector.collect()).events
        seen.append(events[0].payload.users[0].password if events else None)
    assert seen == ["set", None, "locked", "empty"]


async def test_a_line_without_numbers_is_counted(tmp_path: Path):
    """The others are told."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("a:x:one:1::/:/bin/sh\nb:x:2:2::/:/bin/sh\n")
    collector = LocalUsersCollector(tmp_path, root=tmp_path)
    await collector.start(Settings())
    ((event,), losses) = await collector.collect()
    assert [user.user_name for user in event.payload.users] == ["b"]
    assert losses == [Loss(MALFORMED, 0, 1)]
