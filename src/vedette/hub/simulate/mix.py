"""What simulated devices tell: messages as an agent packs them, each kind as often as it comes in the field.

Values vary as those of a gateway in a small plant do: a few dozen programs, peers and names, now and then
something new. Nothing here is random beyond the generator that is passed in, and the time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Literal, TypeAlias

from vedette import __version__
from vedette.wire.events import (
    DNS,
    Baseline,
    Event,
    FileSystem,
    Heartbeat,
    ListeningPort,
    ListeningPorts,
    LocalUser,
    LocalUsers,
    Login,
    NetworkActivity,
    Outcome,
    Package,
    Payload,
    Process,
    SBoM,
    Statistics,
    SystemInformation,
)
from vedette.wire.filesystem import Change, word
from vedette.wire.message import Packed, Window, pack

INTERVAL_S = 120.0
"""Length of the window that a message tells of: the agent's interval for events of high priority."""

Kind: TypeAlias = Callable[[Random], Sequence[tuple[Payload, int]]]
"""Makes the events of one message, with their hit counts."""

_COMMANDS = (
    ("/usr/sbin/cron", "/usr/sbin/CRON -f", "root", 0),
    ("/bin/sh", "/bin/sh -c 'test -x /usr/sbin/anacron || run-parts /etc/cron.hourly'", "root", 0),
    ("/usr/bin/find", "find /var/log/plant -name '*.csv' -mtime +{n} -delete", "root", 0),
    ("/usr/bin/modpoll", "modpoll -m tcp -a {n} -r 40001 -c 16 -1 10.20.0.{n}", "plant", 1001),
    ("/usr/bin/python3", "python3 /opt/plant/collect.py --line {n} --once", "plant", 1001),
    ("/usr/bin/curl", "curl -fsS https://updates.example/plant/channel/{n}", "plant", 1001),
    ("/usr/bin/systemctl", "systemctl is-active plant-line@{n}.service", "root", 0),
    ("/usr/sbin/ip", "ip -j addr show dev eth{n}", "root", 0),
    ("/usr/bin/logger", "logger -t plant 'line {n} ok'", "plant", 1001),
    ("/usr/bin/rsync", "rsync -a /var/spool/plant/{n}/ backup@10.20.1.5::plant/", "backup", 34),
)
_NAMES = ("updates.example", "ntp.example", "historian.plant.example", "mqtt.example", "registry.example")
_PEERS = (
    (502, "TCP", ""),
    (443, "TCP", "TLS"),
    (123, "UDP", "NTP"),
    (53, "UDP", "DNS"),
    (8883, "TCP", "TLS"),
)
_PATHS = (
    "/etc/hosts",
    "/etc/plant/lines.toml",
    "/opt/plant/collect.py",
    "/etc/ssh/sshd_config",
    "/usr/bin/x",
)
_COLLECTORS = ("Process", "NetworkActivity", "DNS", "Login", "FileSystem", "Baseline")
_LOGINS: tuple[Literal["Login", "Logout", "LoginFailed"], ...] = ("Login", "Logout", "LoginFailed")
_CHECKS = 60
"""Checks of a simulated scan: an agent's of a small system without the groups that do not apply."""


def _process(draw: Random) -> tuple[Payload, int]:
    executable, command, user, number = draw.choice(_COMMANDS)
    payload = Process(
        event_type="EXEC",
        process_id=draw.randrange(300, 32_768),
        parent_process_id=draw.randrange(1, 300),
        commandline=command.format(n=draw.randrange(1, 9)),
        executable=executable,
        user_name=user,
        user_id=number,
    )
    return payload, 1 + int(draw.expovariate(0.2))


def _connection(draw: Random) -> tuple[Payload, int]:
    port, protocol, application = draw.choice(_PEERS)
    packets = 2 + int(draw.expovariate(0.02))
    payload = NetworkActivity(
        local_address="10.20.0.2",
        remote_address=f"10.20.{draw.randrange(2)}.{draw.randrange(1, 30)}",
        remote_port=port,
        bytes_in=packets * draw.randrange(60, 1_400),
        bytes_out=packets * draw.randrange(60, 400),
        protocol=protocol,
        application_protocol=application,
        process_id=draw.randrange(300, 32_768),
        user_id=1001,
        commandline="python3 /opt/plant/collect.py",
    )
    return payload, packets


def _lookup(draw: Random) -> tuple[Payload, int]:
    name = draw.choice(_NAMES)
    payload = DNS(
        query_name=name,
        query_type=draw.choice(("A", "AAAA")),
        response_code="NOERROR",
        responding_server="10.20.0.1",
        answers=(f"192.0.2.{len(name)}",),
    )
    return payload, 1 + int(draw.expovariate(0.5))


def _activity(draw: Random) -> Sequence[tuple[Payload, int]]:
    makers = draw.choices((_process, _connection, _lookup), (5, 3, 1), k=draw.randrange(1, 7))
    return [make(draw) for make in makers]


def _one(draw: Random) -> Sequence[tuple[Payload, int]]:
    return [_process(draw)]


def _login(draw: Random) -> Sequence[tuple[Payload, int]]:
    [operation] = draw.choices(_LOGINS, (5, 5, 1))
    address = f"10.20.9.{draw.randrange(1, 9)}"
    return [
        (Login(operation=operation, user_name="service", executable="ssh:notty", remote_address=address), 1)
    ]


def _file(draw: Random) -> Sequence[tuple[Payload, int]]:
    change = draw.choice((Change.MODIFIED, Change.METADATA, Change.CREATED))
    path = draw.choice(_PATHS)
    return [(FileSystem(mask=word(change), mask_number=int(change), path=path), draw.randrange(1, 4))]


def _life(draw: Random) -> Sequence[tuple[Payload, int]]:
    up = draw.randrange(3_600, 9_000_000)
    beat = Heartbeat(agent_uptime=up, system_uptime=up + 60, boot_id=f"{draw.getrandbits(128):032x}")
    sent = draw.randrange(5, 400)
    statistics = [
        Statistics(name=name, events=(Outcome("sent", sent * 3, sent),), cpu_seconds=sent / 1_000)
        for name in _COLLECTORS
    ]
    return [(payload, 1) for payload in (beat, *statistics)]


def _scan(draw: Random) -> Sequence[tuple[Payload, int]]:
    scan = f"{draw.getrandbits(128):032x}"
    return [
        (
            Baseline(
                event_id=scan,
                baseline_check_id=f"CIS-debian-12-Filesystem-1.{number // 10}.{number % 10}",
                baseline_check_result=draw.choices(("PASS", "FAIL", "SKIP"), (6, 3, 1))[0],
                baseline_check_description="Permissions of configuration files keep others from writing.",
                baseline_check_severity="Warning",
                baseline_check_group="Filesystem",
            ),
            1,
        )
        for number in range(_CHECKS)
    ]


def _inventory(draw: Random) -> Sequence[tuple[Payload, int]]:
    packages = tuple(
        Package(name=name, version=f"1.{draw.randrange(9)}", purl=f"pkg:deb/debian/{name}@1.0")
        for name in ("bash", "curl", "openssl", "plant-collect", "rsync", "systemd")
    )
    facts: list[Payload] = [
        SystemInformation(
            hardware_vendor="Example",
            hardware_model="Gateway 3",
            os_dist="Debian GNU/Linux",
            os_version="Debian GNU/Linux 12",
            os_arch="aarch64",
            agent_version=__version__,
        ),
        ListeningPorts(
            snapshot_id="simulated",
            ports=(ListeningPort(protocol="TCP", local_address="0.0.0.0", local_port=22, user_id=0),),  # noqa: S104
        ),
        LocalUsers(snapshot_id="simulated", users=(LocalUser(user_name="plant", user_id=1001),)),
        SBoM(snapshot_id="simulated", packages=packages, total=len(packages)),
    ]
    return [(fact, 1) for fact in facts]


KINDS: Mapping[Kind, float] = {
    _activity: 70,
    _file: 8,
    _login: 6,
    _life: 14,
    _inventory: 1.5,
    _scan: 0.5,
}
"""Kinds of messages of a device, and how often each comes among a hundred."""

ONE_EVENT: Mapping[Kind, float] = {_one: 1}
"""Only messages of one process event: what a hub does for a message, rather than for its events."""


class Mix:
    """Messages, drawn. attacks: command lines, one of which is what `attack_share` of the messages tell."""

    def __init__(
        self,
        draw: Random,
        kinds: Mapping[Kind, float] = KINDS,
        *,
        attacks: Sequence[str] = (),
        attack_share: float = 0.0,
    ) -> None:
        self._draw = draw
        self._kinds = list(kinds)
        self._weights = list(kinds.values())
        self._attacks = attacks
        self._share = attack_share if attacks else 0.0

    def message(self, now: float) -> Packed:
        """The next message, of a window that ends at `now` (Unix seconds)."""
        events = [
            Event(payload, now - self._draw.random() * INTERVAL_S, hits) for payload, hits in self._told()
        ]
        return next(pack([(events, Window(now - INTERVAL_S, now))]))

    def _told(self) -> Sequence[tuple[Payload, int]]:
        if self._share and self._draw.random() < self._share:
            return [(self._attack(), 1)]
        [kind] = self._draw.choices(self._kinds, self._weights)
        return kind(self._draw)

    def _attack(self) -> Payload:
        number = self._draw.randrange(300, 32_768)
        command = self._draw.choice(self._attacks)
        return Process(
            event_type="EXEC", process_id=number, parent_process_id=1, commandline=command, user_id=33
        )
