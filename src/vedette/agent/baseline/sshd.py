"""Facts about the OpenSSH server: its effective options, asked (`sshd -T`) or from its files."""

from __future__ import annotations

import fnmatch

from vedette.agent.baseline.device import Device, Line, fact
from vedette.agent.baseline.services import installed

CONFIGURATION = "/etc/ssh/sshd_config"

MAX_INCLUDES = 64
"""Files that one configuration may include; more is a loop."""

DEFAULTS = {
    "addressfamily": "any",
    "allowtcpforwarding": "yes",
    "banner": "none",
    "ciphers": "chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr,"
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com",
    "clientalivecountmax": "3",
    "clientaliveinterval": "0",
    "hostbasedauthentication": "no",
    "ignorerhosts": "yes",
    "kexalgorithms": "curve25519-sha256,ecdh-sha2-nistp256,diffie-hellman-group16-sha512",
    "logingracetime": "120",
    "loglevel": "info",
    "macs": "umac-64-etm@openssh.com,umac-128-etm@openssh.com,hmac-sha2-256-etm@openssh.com,"
    "hmac-sha2-512-etm@openssh.com,hmac-sha1-etm@openssh.com,umac-64@openssh.com,"
    "umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512,hmac-sha1",
    "maxauthtries": "6",
    "maxsessions": "10",
    "maxstartups": "10:30:100",
    "permitemptypasswords": "no",
    "permitrootlogin": "prohibit-password",
    "permituserenvironment": "no",
    "usepam": "no",
    "x11forwarding": "no",
}
"""What OpenSSH 8 and 9 do where nothing is set (sshd_config(5) and servconf.c), in short for algorithms."""


@fact
def server(device: Device) -> str | None:
    """The sign that OpenSSH's server is installed; None for dropbear or none at all."""
    return installed(device, "sshd", "openssh-server") or device.first(CONFIGURATION)


@fact
def options(device: Device) -> dict[str, Line]:
    """Option in lower case → its effective line, defaults included. The first line of an option counts."""
    found = {key: Line("default of OpenSSH", f"{key} {value}") for key, value in DEFAULTS.items()}
    asked = device.run("sshd", "-T")
    lines = [Line("sshd -T", line) for line in asked.splitlines()] if asked else _lines(device, CONFIGURATION)
    for line in reversed(lines):
        found[_split(line.text)[0].lower()] = line
    return found


def value(line: Line) -> str:
    """What stands behind the keyword, in lower case."""
    return _split(line.text)[1].strip('"').lower()


def algorithms(line: Line) -> list[str]:
    """A list of algorithms, with `+`, `-` and `^` in front worked into OpenSSH's own list."""
    keyword, listed = _split(line.text)
    sign, own = listed[:1], DEFAULTS[keyword.lower()].split(",")
    if sign not in {"+", "-", "^"}:
        return listed.split(",")
    changes = listed[1:].split(",")
    if sign == "-":
        return [name for name in own if not any(fnmatch.fnmatchcase(name, change) for change in changes)]
    return own + changes


def _split(text: str) -> tuple[str, str]:
    """Keyword and the rest; between them blanks or one `=`."""
    keyword, _, rest = " ".join(text.replace("=", " ", 1).split()).partition(" ")
    return keyword, rest


def _lines(device: Device, path: str, depth: int = 4) -> list[Line]:
    """Global lines in order, included files in their place; `Match` blocks change nothing for all."""
    found: list[Line] = []
    for line in device.lines(path):
        keyword, rest = _split(line.text)
        if keyword.lower() == "match":
            break
        if keyword.lower() != "include":
            found.append(line)
        elif depth:
            patterns = [word if word.startswith("/") else f"/etc/ssh/{word}" for word in rest.split()]
            paths = [included for pattern in patterns for included in device.glob(pattern)]
            for included in paths[:MAX_INCLUDES]:
                found += _lines(device, included, depth - 1)
    return found
