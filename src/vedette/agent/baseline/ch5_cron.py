"""Chapter 5.1: cron, and who may use it."""

from __future__ import annotations

from vedette.agent.baseline.declare import Finding, Severity, Tally, check, failed, passed, skipped
from vedette.agent.baseline.device import Device
from vedette.agent.baseline.families import file_mode, modes, service_example
from vedette.agent.baseline.services import enabled, installed
from vedette.agent.baseline.tree import File

_NAMES = ("cron", "crond", "cronie", "busybox-crond", "dcron", "fcron")
_JOBS = (
    "/etc/crontab",
    "/etc/cron.*/*",
    "/var/spool/cron/*",
    "/var/spool/cron/crontabs/*",
    "/etc/crontabs/*",
)


@check(
    "5.1.1",
    "cron, where jobs rely on it, starts with the system.",
    "Run `systemctl enable --now cron` or `rc-update add crond`.",
    passing={"/etc/crontab": "", "/usr/sbin/cron": File("", 0o755), **service_example("cron")},
    failing={"/etc/crontab": "", "/usr/sbin/cron": File("", 0o755)},
    skipping={},
)
def _daemon(device: Device) -> Finding:
    if not installed(device, *_NAMES):
        return skipped("cron is not installed")
    if not any(device.glob(pattern) for pattern in _JOBS):
        return skipped("there are no jobs for cron")
    sign = enabled(device, *_NAMES)
    return passed(sign) if sign else failed("nothing starts cron")


file_mode("5.1.2", ["/etc/crontab"], 0o600, "Only root reads and changes /etc/crontab.")

for number, period in (("5.1.3", "hourly"), ("5.1.4", "daily"), ("5.1.5", "weekly"), ("5.1.6", "monthly")):
    file_mode(number, [f"/etc/cron.{period}"], 0o700, f"Only root sees and changes what cron runs {period}.")

file_mode("5.1.7", ["/etc/cron.d"], 0o700, "Only root sees and changes the timetables in /etc/cron.d.")


@check(
    "5.1.8",
    "Who may use cron and at is listed: nobody else may.",
    "Remove cron.deny and at.deny; make /etc/cron.allow and /etc/at.allow, owned by root, mode 0600.",
    severity=Severity.WARNING,
    passing={"/usr/sbin/cron": "", "/etc/cron.allow": File("root\n", 0o600)},
    failing={"/usr/sbin/cron": "", "/etc/cron.deny": ""},
    skipping={},
)
def _restricted(device: Device) -> Finding:
    tally = Tally()
    for tool, names in (("cron", _NAMES), ("at", ("atd", "at"))):
        sign = installed(device, *names)
        if sign and not (device.resolve(sign) or "").endswith("/busybox"):  # whose crond has no such lists
            found = modes(device, [f"/etc/{tool}.allow"], 0o640, ("root", "crontab", "daemon"))
            evidence = found.evidence or (f"there is no /etc/{tool}.allow",)
            tally.add(found.result == "PASS", evidence[0])
            if device.exists(f"/etc/{tool}.deny"):
                tally.add(False, f"/etc/{tool}.deny lists who may not, and lets all others")
    return tally.finding("neither cron nor at is installed")
