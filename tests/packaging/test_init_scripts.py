"""The scripts for other init systems, run by what they are for, or by what stands in for it."""

import shutil
import subprocess
from pathlib import Path

import pytest
from debian_roots import ROOT, System

from vedette.agent.check import CAPABILITIES

pytestmark = [pytest.mark.slow, pytest.mark.root]

GRANTED = f"{sum(1 << need.bit for need in CAPABILITIES.values()):016x}"

AGENT = """
agent() {
	for process in /proc/[0-9]*; do
		case "$(tr '\\0' ' ' <$process/cmdline)" in
		"/usr/bin/python3 -ISB /usr/bin/vedette agent run "*) basename $process; return ;;
		esac
	done
	return 1
}
until_other() {
	for _ in $(seq 300); do
		now=$(agent 2>/dev/null) && [ "$now" != "$1" ] && return
		sleep 0.1
	done
	return 1
}
"""
"""Shell functions: the agent's process id; wait until there is another."""


def connect(system: System) -> None:
    """Local files with which an agent runs; its hub need not be there."""
    path = system.root / "etc/vedette/connection_string.txt"
    path.write_text("HostName=localhost;DeviceId=d;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==")
    system.run("chown", "root:vedette", "/etc/vedette/connection_string.txt")
    path.chmod(0o640)


def test_openrc_runs_it_confined_and_brings_it_back(package: Path, system: System):
    """Debian's OpenRC: not without local files; as a user with six capabilities; again after a kill."""
    system.add("openrc")
    system.install(package)
    script = system.root / "etc/init.d/vedette"
    shutil.copy(system.root / "usr/share/doc/vedette/init/openrc/vedette", script)
    script.chmod(0o755)
    begin = "openrc sysinit >/dev/null 2>&1; openrc boot >/dev/null 2>&1\n"
    assert "neither connection_string.txt nor" in system.contain(
        f"{begin} rc-service vedette start 2>&1 || true"
    )
    connect(system)
    output = system.contain(
        f"""{AGENT}{begin}
        sed -i 's/^respawn_delay=.*/respawn_delay=1/' /etc/init.d/vedette
        rc-service vedette start
        until_other none
        rc-service vedette status
        cat /proc/$(agent)/status
        before=$(agent)
        kill -9 $before
        until_other $before
        rc-service vedette stop
        ! agent || exit 1
        stat -c %U:%a /var/lib/vedette
        """
    )
    fields = dict(line.split(":\t", 1) for line in output.splitlines() if ":\t" in line)
    assert "status: started" in output
    assert "0" not in fields["Uid"].split()
    assert fields["CapEff"] == fields["CapBnd"] == fields["CapAmb"] == GRANTED
    assert fields["NoNewPrivs"] == "1"
    assert "vedette:700" in output


RC_COMMON = """
script=$1; action=$2
procd_open_instance() { echo "open $*"; }
procd_set_param() { echo "set $*"; }
procd_close_instance() { echo "close $*"; }
. "$script"
"${action}_service"
echo "USE_PROCD=$USE_PROCD START=$START STOP=$STOP"
"""
"""What OpenWrt's rc.common does with a script, as far as ours is concerned."""

PROCD_PARAMETERS = {
    *("env", "data", "limits", "command", "netdev", "file", "respawn", "watch", "watchdog", "error", "nice"),
    *("term_timeout", "reload_signal", "pidfile", "user", "group", "seccomp", "capabilities", "facility"),
    *("stdout", "stderr", "no_new_privs", "extroot", "overlaydir", "tmpoverlaysize"),
}
"""What procd.sh of OpenWrt knows. It passes over others in silence."""


def test_procd_is_told_what_it_understands(package: Path, system: System):
    """The script under BusyBox' shell, in a system where the package is installed."""
    if not (busybox := shutil.which("busybox")):
        pytest.skip("needs busybox")
    system.install(package)
    shutil.copy(busybox, system.root / "usr/bin/busybox")
    (system.root / "etc/rc.common").write_text(RC_COMMON)
    script = "/usr/share/doc/vedette/init/procd/vedette"
    shutil.rmtree(system.root / "var/lib/vedette")
    lines = system.run("busybox", "ash", "-eu", "/etc/rc.common", script, "start").stdout.splitlines()
    assert (lines[0], lines[-2:]) == ("open ", ["close ", "USE_PROCD=1 START=95 STOP=05"])
    told = dict(line.removeprefix("set ").split(" ", 1) for line in lines[1:-2])
    assert told.keys() <= PROCD_PARAMETERS
    program, *arguments = told["command"].split()
    assert (system.root / program.lstrip("/")).exists()
    assert arguments == ["agent", "run"]
    assert (told["user"], told["group"], told["no_new_privs"]) == ("vedette", "vedette", "1")
    assert told["capabilities"] == "/etc/capabilities/vedette.json"
    assert system.run("stat", "-c", "%U:%a", "/var/lib/vedette").stdout == "vedette:700\n"


@pytest.mark.parametrize("shell", [["dash"], ["busybox", "ash"]], ids=" ".join)
@pytest.mark.parametrize("script", ["packaging/openrc/vedette", "packaging/procd/vedette"])
def test_the_scripts_are_of_the_shell_that_runs_them(shell: list[str], script: str):
    """Neither Debian's nor BusyBox' finds a mistake in their syntax."""
    if not shutil.which(shell[0]):
        pytest.skip(f"needs {shell[0]}")
    subprocess.run([*shell, "-n", ROOT / script], check=True)
