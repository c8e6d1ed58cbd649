"""The commands that make a machine a device of this hub, for each way of installing the agent. Pure.

A way's lines come before or after those that write who the device is.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Way(NamedTuple):
    """before, after: lines around the one that writes the credential. {port}: an option of the agent."""

    before: Sequence[str]
    after: Sequence[str]


WAYS: Mapping[str, Way] = {
    "Debian package": Way(
        ("apt install ./vedette_*.deb",),
        ("systemctl enable --now vedette", "vedette agent check"),
    ),
    "Container": Way(
        (
            "podman build -t vedette -f packaging/container/Containerfile dist",
            "install -d -m 700 /etc/vedette",
        ),
        (
            "podman run -d --name vedette --pid host --network host --userns host --read-only \\",
            "  --cap-drop ALL --cap-add BPF --cap-add PERFMON --cap-add NET_ADMIN --cap-add NET_RAW \\",
            "  --cap-add DAC_READ_SEARCH --cap-add SYS_PTRACE --memory 128m --cpus 0.5 \\",
            "  -v /etc/vedette:/etc/vedette:ro -v vedette:/var/lib/vedette \\",
            "  -v /sys/kernel/btf:/sys/kernel/btf:ro -v /var/log:/var/log:ro vedette agent run{port}",
        ),
    ),
    "Python package": Way(
        ("pip install vedette", "install -d -m 700 /etc/vedette"),
        ("vedette agent check", "vedette agent run{port}"),
    ),
    "From a Defender micro agent": Way(
        ("apt install ./vedette_*.deb", "vedette migrate --dry-run", "vedette migrate"),
        ("systemctl enable --now vedette", "vedette agent check"),
    ),
}
"""Way → its commands."""

DEFAULT_PORT = 8883

CERTIFICATE = (
    "# copy the device's certificate_public.pem and certificate_private.pem (mode 600) to /etc/vedette;"
    " the common name is the registration id"
)


def commands(way: str, file: str, content: str, host: str, port: int, *, certificate: bool = False) -> str:
    """What is typed as root on the device. file: below /etc/vedette, with `content`, often a secret.

    certificate: the device proves itself by files that have to be brought there, too.
    """
    chosen = WAYS[way]
    option = "" if port == DEFAULT_PORT else f" --port {port}"
    return "\n".join(
        (
            *chosen.before,
            f"(umask 077; printf %s {shlex.quote(content)} > /etc/vedette/{file})",
            f"# copy the hub's pki/ca.pem to /etc/vedette/ca.pem; the device must reach {host}:{port}",
            *([CERTIFICATE] if certificate else []),
            *(line.format(port=option) for line in chosen.after),
        )
    )
