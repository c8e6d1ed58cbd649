"""Chapters 5.3 to 5.6: passwords by PAM, their age, sessions, root's consoles and su."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from vedette.agent.baseline.accounts import (
    Secret,
    accounts,
    groups,
    login_defs,
    login_number,
    people,
    secrets,
)
from vedette.agent.baseline.declare import (
    Finding,
    Severity,
    Tally,
    check,
    failed,
    on_device,
    only_full,
    passed,
    skipped,
    verdict,
)
from vedette.agent.baseline.device import Device, Line, fact
from vedette.agent.baseline.tree import Example

# 5.3: PAM

_PAM_FILES = (
    "/etc/pam.d/common-*",
    "/etc/pam.d/system-*",
    "/etc/pam.d/password-auth",
    "/etc/pam.d/base-*",
    "/etc/pam.d/login",
    "/etc/pam.d/sshd",
    "/etc/pam.d/passwd",
)
_NO_PAM = "this system has no PAM"


@fact
def _pam(device: Device) -> list[Line]:
    """Lines of the services by which people sign in and change passwords."""
    return device.lines_of(*_PAM_FILES)


def _modules(device: Device, names: str, kind: str = "") -> list[Line]:
    pattern = re.compile(rf"^-?{kind or '(auth|account|password|session)'}\s.*\bpam_({names})\.so\b")
    return [line for line in _pam(device) if pattern.search(line.text)]


def _number(lines: list[Line], key: str) -> int | None:
    """The last `key = n` or `key=n` among lines."""
    found = [int(match[1]) for line in lines if (match := re.search(rf"\b{key}\s*=\s*(-?\d+)", line.text))]
    return found[-1] if found else None


@check(
    "5.3.1",
    "New passwords have at least 14 characters of four kinds, checked by pam_pwquality.",
    "Install libpam-pwquality; set minlen = 14 and minclass = 4 in /etc/security/pwquality.conf.",
    passing={
        "/etc/pam.d/common-password": "password requisite pam_pwquality.so retry=3\n",
        "/etc/security/pwquality.conf": "minlen = 14\nminclass = 4\n",
    },
    failing={"/etc/pam.d/common-password": "password [success=1] pam_unix.so obscure yescrypt\n"},
    skipping={},
)
def _quality(device: Device) -> Finding:
    if not _pam(device):
        return skipped(_NO_PAM)
    modules = _modules(device, "pwquality|cracklib|passwdqc", "password")
    if not modules:
        return failed("no line of PAM checks the quality of new passwords")
    settings = device.lines_of("/etc/security/pwquality.conf", "/etc/security/pwquality.conf.d/*.conf")
    lines = settings + modules
    length, classes = _number(lines, "minlen"), _number(lines, "minclass")
    credits = [_number(lines, f"{kind}credit") for kind in "dulo"]
    kinds = classes == 4 or all(credit is not None and credit < 0 for credit in credits)
    return verdict(length is not None and length >= 14 and kinds, *lines)


@check(
    "5.3.2",
    "After five wrong passwords an account is closed for a quarter of an hour.",
    "Add pam_faillock to /etc/pam.d; set deny = 5 and unlock_time = 900 in /etc/security/faillock.conf.",
    severity=Severity.IMPORTANT,
    passing={"/etc/pam.d/common-auth": "auth required pam_faillock.so preauth deny=5 unlock_time=900\n"},
    failing={"/etc/pam.d/common-auth": "auth [success=1] pam_unix.so nullok\n"},
    skipping={},
)
def _lock_out(device: Device) -> Finding:
    if not _pam(device):
        return skipped(_NO_PAM)
    modules = _modules(device, "faillock|tally2", "auth")
    if not modules:
        return failed("no line of PAM locks accounts (pam_faillock)")
    lines = device.lines("/etc/security/faillock.conf") + modules
    deny, unlock = _number(lines, "deny") or 3, _number(lines, "unlock_time")
    wait = 600 if unlock is None else unlock
    return verdict(1 <= deny <= 5 and (wait == 0 or wait >= 900), *lines)


@check(
    "5.3.3",
    "The last five passwords cannot be taken again.",
    "Add `password required pam_pwhistory.so remember=5 use_authtok` to /etc/pam.d.",
    passing={"/etc/pam.d/common-password": "password required pam_pwhistory.so remember=5 use_authtok\n"},
    failing={"/etc/pam.d/common-password": "password [success=1] pam_unix.so yescrypt\n"},
    skipping={},
)
def _history(device: Device) -> Finding:
    if not _pam(device):
        return skipped(_NO_PAM)
    lines = device.lines("/etc/security/pwhistory.conf") + _modules(device, "pwhistory|unix", "password")
    remembered = _number(lines, "remember")
    return verdict(remembered is not None and remembered >= 5, *lines)


_STRONG = ("sha512", "yescrypt", "gost_yescrypt", "bcrypt", "blowfish")


@check(
    "5.3.4",
    "Passwords are kept as slow, salted hashes: SHA-512, yescrypt or bcrypt.",
    "Give pam_unix the option sha512 or yescrypt; set ENCRYPT_METHOD SHA512 in /etc/login.defs.",
    severity=Severity.IMPORTANT,
    passing={"/etc/pam.d/common-password": "password [success=1] pam_unix.so obscure yescrypt\n"},
    failing={"/etc/pam.d/common-password": "password [success=1] pam_unix.so md5\n"},
    skipping={},
)
def _hashes(device: Device) -> Finding:
    tally = Tally()
    for line in _modules(device, "unix", "password"):
        tally.add(bool(set(_STRONG) & set(line.text.split())), line)
    method = login_defs(device).get("ENCRYPT_METHOD")
    if method and not _modules(device, "unix", "password"):
        tally.add(method.text.split()[-1].lower() in _STRONG, method)
    return tally.finding(f"{_NO_PAM}, and no ENCRYPT_METHOD in /etc/login.defs")


# 5.4.1: age of passwords

_OFF_AGE = on_device("devices have no people whose passwords should age")
_USER = "ann:x:1000:1000::/home/ann:/bin/bash\n"
DAY = 86_400


def _with_passwords(device: Device) -> list[Secret]:
    """The passwords of people that are set."""
    found = [secrets(device)[account.name] for account in people(device) if account.name in secrets(device)]
    return [secret for secret in found if secret.state == "set"]


def _age(
    number: str,
    keyword: str,
    place: int,
    judge: Callable[[int], bool],
    good: int,
    bad: int,
    sentence: str,
    remedy: str,
) -> None:
    def example(days: int) -> Example:
        fields = ["ann", "$6$x", "19000", "7", "365", "7", "30", "", ""]
        fields[place] = str(days)
        return {
            "/etc/passwd": _USER,
            "/etc/shadow": ":".join(fields) + "\n",
            "/etc/login.defs": f"{keyword} {days}\n" if keyword else "",
        }

    @check(
        number,
        sentence,
        remedy,
        severity=Severity.INFORMATIONAL,
        off=_OFF_AGE,
        passing=example(good),
        failing=example(bad),
    )
    def probe(device: Device) -> Finding:
        tally = Tally()
        if keyword:
            days = login_number(device, keyword)
            line = login_defs(device).get(keyword, f"/etc/login.defs: no {keyword}")
            tally.add(days is not None and judge(days), line)
        for secret in _with_passwords(device):
            days = (secret.changed, secret.minimum, secret.maximum, secret.warning, secret.inactive)[
                place - 2
            ]
            tally.add(days is not None and judge(days), f"{secret}: {days} days")
        return tally.finding("nobody has a password")


_age(
    "5.4.1.1",
    "PASS_MAX_DAYS",
    4,
    lambda days: 1 <= days <= 365,
    365,
    99_999,
    "Passwords last a year at most.",
    "Set PASS_MAX_DAYS 365 in /etc/login.defs and run `chage --maxdays 365 <user>`.",
)
_age(
    "5.4.1.2",
    "PASS_MIN_DAYS",
    3,
    lambda days: days >= 7,
    7,
    0,
    "A new password stays for a week, so that nobody goes round to his old one.",
    "Set PASS_MIN_DAYS 7 in /etc/login.defs and run `chage --mindays 7 <user>`.",
)
_age(
    "5.4.1.3",
    "PASS_WARN_AGE",
    5,
    lambda days: days >= 7,
    7,
    0,
    "Users learn a week before that their password ends.",
    "Set PASS_WARN_AGE 7 in /etc/login.defs and run `chage --warndays 7 <user>`.",
)
_age(
    "5.4.1.4",
    "",
    6,
    lambda days: 0 <= days <= 30,
    30,
    60,
    "Accounts whose password has ended for a month are closed.",
    "Run `useradd -D -f 30` and `chage --inactive 30 <user>`.",
)


@check(
    "5.4.1.5",
    "No password was last changed in the future, which would keep it from ageing.",
    "Correct the clock, and have the users named set new passwords.",
    off=_OFF_AGE,
    passing={"/etc/passwd": _USER, "/etc/shadow": "ann:$6$x:19000:7:365:7:30::\n"},
    failing={"/etc/passwd": _USER, "/etc/shadow": "ann:$6$x:99999:7:365:7:30::\n"},
    skipping={},
)
def _changed(device: Device) -> Finding:
    today = int(time.time() / DAY)
    tally = Tally()
    for secret in _with_passwords(device):
        good = secret.changed is None or secret.changed <= today
        tally.add(good, f"{secret}: last changed on day {secret.changed}")
    return tally.finding("nobody has a password")


# 5.4.2 to 5.4.5: accounts and sessions

_SYSTEM_SHELLS = frozenset({"root", "sync", "shutdown", "halt"})


@check(
    "5.4.2",
    "Accounts of services have no shell and no password.",
    "Run `usermod -s /usr/sbin/nologin <account>` and `usermod -L <account>`.",
    severity=Severity.IMPORTANT,
    passing={
        "/etc/passwd": "daemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n",
        "/etc/shadow": "daemon:*:1::::::\n",
    },
    failing={"/etc/passwd": "daemon:x:1:1::/usr/sbin:/bin/sh\n"},
    skipping={},
)
def _system_accounts(device: Device) -> Finding:
    least = login_number(device, "UID_MIN") or 1000
    tally = Tally()
    for account in accounts(device):
        if account.name not in _SYSTEM_SHELLS and 0 < account.uid < least:
            secret = secrets(device).get(account.name)
            closed = secret is None or secret.state == "locked"
            state = "" if closed else ", and has a password" if secret else ""
            tally.add(not account.may_login and closed, f"{account} has shell {account.shell}{state}")
    return tally.finding("there are no accounts of services")


@check(
    "5.4.3",
    "root's own group is 0, so that its files belong to nobody else's.",
    "Run `usermod -g 0 root`.",
    passing={"/etc/passwd": "root:x:0:0::/root:/bin/sh\n"},
    failing={"/etc/passwd": "root:x:0:100::/root:/bin/sh\n"},
    skipping={},
)
def _root_group(device: Device) -> Finding:
    root = next((account for account in accounts(device) if account.name == "root"), None)
    return verdict(root.gid == 0, f"{root} has gid {root.gid}") if root else skipped("there is no root")


_PROFILES = ("/etc/profile", "/etc/profile.d/*.sh", "/etc/bash.bashrc", "/etc/bashrc")


@check(
    "5.4.4",
    "Files that users make are closed to others (umask 027).",
    "Set `umask 027` in /etc/profile.d and UMASK 027 in /etc/login.defs.",
    passing={"/etc/profile": "umask 027\n"},
    failing={"/etc/profile": "umask 022\n"},
    skipping={},
)
def _umask(device: Device) -> Finding:
    tally = Tally()
    lines = device.lines_of(*_PROFILES) + (
        [login_defs(device)["UMASK"]] if "UMASK" in login_defs(device) else []
    )
    for line in lines:
        match = re.match(r"umask\s+([0-7]{3,4})\b", line.text, re.IGNORECASE)
        if match:
            tally.add(int(match[1], 8) & 0o027 == 0o027, line)
    finding = tally.finding("no shell reads a profile here")
    if not finding.evidence and device.exists("/etc/profile"):
        return failed("no umask in /etc/profile, /etc/profile.d or /etc/login.defs")
    return finding


@check(
    "5.4.5",
    "A shell that nobody uses for a quarter of an hour ends.",
    "Write `readonly TMOUT=900; export TMOUT` to /etc/profile.d/timeout.sh.",
    severity=Severity.INFORMATIONAL,
    passing={"/etc/profile.d/timeout.sh": "readonly TMOUT=900\n"},
    failing={"/etc/profile": "PATH=/usr/bin:/bin\n"},
    skipping={},
)
def _timeout(device: Device) -> Finding:
    tally = Tally()
    for line in device.lines_of(*_PROFILES):
        match = re.search(r"\bTMOUT=(\d+)", line.text)
        if match:
            tally.add(1 <= int(match[1]) <= 900, line)
    finding = tally.finding("no shell reads a profile here")
    if not finding.evidence and any(device.glob(pattern) for pattern in _PROFILES):
        return failed(f"no TMOUT in {', '.join(_PROFILES)}")
    return finding


# 5.5, 5.6: root


@check(
    "5.5",
    "root signs in at consoles that stand in a safe place only.",
    "List those consoles in /etc/securetty and use pam_securetty.",
    severity=Severity.INFORMATIONAL,
    off=only_full("current distributions have no /etc/securetty; close the account of root instead"),
    passing={"/etc/securetty": "tty1\n"},
    failing={"/etc/securetty": "tty1\nttyS0\npts/0\n"},
    skipping={},
)
def _consoles(device: Device) -> Finding:
    if not device.exists("/etc/securetty"):
        return skipped("there is no /etc/securetty")
    lines = device.lines("/etc/securetty")
    wrong = [line for line in lines if not re.fullmatch(r"console|tty\d+|vc/\d+", line.text)]
    return failed(*wrong) if wrong else passed(*lines, f"/etc/securetty: {len(lines)} consoles")


@check(
    "5.6",
    "su, which asks for another's password, is for a named group of users.",
    "Add `auth required pam_wheel.so use_uid group=<group>` to /etc/pam.d/su; keep the group empty.",
    passing={
        "/etc/pam.d/su": "auth required pam_wheel.so use_uid group=sugroup\n",
        "/etc/group": "sugroup:x:99:\n",
    },
    failing={"/etc/pam.d/su": "auth sufficient pam_rootok.so\n"},
    skipping={},
)
def _su(device: Device) -> Finding:
    if not device.exists("/etc/pam.d/su"):
        return skipped(_NO_PAM)
    wheel = re.compile(r"^auth\s+(required|requisite)\s+pam_wheel\.so\b")
    lines = [line for line in device.lines("/etc/pam.d/su") if wheel.match(line.text)]
    if not lines:
        return failed("/etc/pam.d/su: no pam_wheel.so")
    name = re.search(r"\bgroup=(\S+)", lines[0].text)
    members = [group for group in groups(device) if group.name == (name[1] if name else "wheel")]
    return passed(lines[0], *(f"{group}: {len(group.members)} members" for group in members))
