"""The PAM hook: what its log says, what the installer edits, and that no wrong password ever gets in."""

import asyncio
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox import Sandbox, obstacle
from vedette.agent.collectors.login import LoginCollector
from vedette.agent.losses import Loss, Losses
from vedette.agent.sources import Unavailable, pam
from vedette.agent.sources.pam import Ends, PamLog, parse
from vedette.agent.sources.signin import Operation, SignIn
from vedette.wire.twin import Settings

PACKAGING = Path(__file__).parents[2] / "packaging" / "pam"
PASSWORD = "correct horse"

spec = importlib.util.spec_from_file_location("install_pam", PACKAGING / "install.py")
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)

LINE = "2026-11-20T14:56:23+00:00,4711,4712,open_session,sshd,alice,192.0.2.7,/dev/pts/1,0"


def test_a_line_is_a_sign_in():
    """The first number is the program's process, the second the hook's own."""
    assert parse(LINE) == SignIn(
        operation=Operation.LOGIN,
        teller="pam",
        time=1_795_186_583.0,
        program="sshd",
        user="alice",
        terminal="pts/1",
        remote="192.0.2.7",
        process_id=4711,
    )


@pytest.mark.parametrize(
    ("stage", "code", "operation"),
    [("open_session", 0, "Login"), ("close_session", 1, "Logout"), ("auth", 2, "LoginFailed")],
)
def test_stage_and_code_tell_what_happened(stage: str, code: int, operation: str):
    """All three of the documented forms are understood, whoever wrote them."""
    fact = parse(f"2026-11-20T14:56:23Z,1,2,{stage},login,bob,,tty1,{code}")
    assert fact is not None
    assert (fact.operation, fact.remote) == (operation, "0.0.0.0")


@pytest.mark.parametrize(
    "line",
    [
        "",
        LINE + ",0",
        LINE.replace("open_session", "auth"),
        LINE.replace("4711", "-1"),
        LINE.replace("4711", "१"),
        LINE.replace("4711", "9" * 11),
        LINE.replace("2026-11-20T14:56:23+00:00", "today"),
    ],
)
def test_what_is_not_such_a_line_says_nothing(line: str):
    """A field too many, a stage that contradicts its code, wrong numbers, no time."""
    assert parse(line) is None


def test_a_large_log_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What was in it is read, what is no line is counted, and the hook begins a new file."""
    monkeypatch.setattr(pam, "KEEP_BYTES", 50)
    path = tmp_path / "pam.log"
    path.touch()
    losses = Losses()
    source = PamLog(path, None, losses)
    path.write_text(f"{LINE}\nnonsense\n")
    assert [fact.user for fact in source.facts()] == ["alice"]
    assert losses.take() == [Loss(pam.NOT_A_LINE, 0, 1)]
    assert not path.exists()
    assert (tmp_path / "pam.log.1").exists()
    source.close()


async def test_the_end_of_a_process_is_the_logout():
    """The kernel tells of it, whether the process ends by itself or is killed."""
    told: asyncio.Queue[SignIn] = asyncio.Queue()
    ends = Ends(told.put_nowait)
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    ends.watch(login(process.pid, time.time()))
    assert told.empty()
    process.kill()
    logout = await told.get()
    assert (logout.operation, logout.user, logout.process_id) == (Operation.LOGOUT, "alice", process.pid)
    await process.wait()
    ends.close()


async def test_a_process_that_has_ended_already_is_told_of_at_once():
    """Also if its number belongs to a younger process now."""
    told: list[SignIn] = []
    ends = Ends(told.append)
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    ends.watch(login(process.pid, time.time()))
    ends.watch(login(os.getpid(), time.time() - 10_000_000))
    assert [fact.process_id for fact in told] == [process.pid, os.getpid()]
    ends.close()


def login(process_id: int, when: float) -> SignIn:
    return SignIn(operation=Operation.LOGIN, teller="pam", time=when, user="alice", process_id=process_id)


DEBIAN = """\
# here are the per-package modules (the "Primary" block)
auth\t[success=1 default=ignore]\tpam_unix.so nullok
# here's the fallback if no module succeeds
auth\trequisite\t\t\tpam_deny.so
auth\trequired\t\t\tpam_permit.so
"""


def test_success_jumps_over_the_hook_as_over_the_denial():
    """The one jump of Debian's stack becomes one longer, and the hook stands right before pam_deny."""
    assert install.with_failures(DEBIAN).splitlines()[1:5] == [
        "auth\t[success=2 default=ignore]\tpam_unix.so nullok",
        "# here's the fallback if no module succeeds",
        "auth [default=ignore] pam_exec.so quiet seteuid /usr/lib/vedette/pam-hook 2",
        "auth\trequisite\t\t\tpam_deny.so",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("auth required pam_unix.so\n", "pam_deny"),
        (DEBIAN.replace("nullok", "\\\n nullok"), "backslash"),
        (DEBIAN.replace("success=1", "success=2").replace("# here's", "@include other\n#"), "include"),
    ],
)
def test_what_cannot_be_edited_safely_is_refused(text: str, why: str):
    """With the reason; the file is left alone."""
    with pytest.raises(install.NotUnderstood, match=why):
        install.with_failures(text)


CONTROLS = st.one_of(
    st.sampled_from(["required", "sufficient", "optional"]),
    st.builds(
        "[success={} new_authtok_reqd=ok default={}]".format,
        st.integers(1, 6),
        st.sampled_from(["ignore", "die", "1", "2"]),
    ),
)
RULES = st.lists(st.builds("auth {} pam_x.so".format, CONTROLS) | st.just("# a comment"), max_size=6)


def targets(text: str) -> list[tuple[str, list[str]]]:
    """Each rule's module, with the modules that its jumps lead to."""
    rules = [line for line in text.splitlines() if line.startswith("auth")]
    rest = [*rules, *["end"] * 20]
    jumps = [[int(word) for word in install._JUMP.findall(rule)] for rule in rules]
    return [
        (rule.split()[-1], [rest[at + 1 + jump].partition(" pam_")[2] or "end" for jump in jumps[at]])
        for at, rule in enumerate(rules)
    ]


@given(before=RULES, after=RULES)
def test_every_jump_leads_where_it_led_and_removal_restores_the_text(before: list[str], after: list[str]):
    """Whatever the stack: nothing else changes, and what led to the denial goes by the hook first."""
    numbered = [f"{rule}" if rule.startswith("#") else f"{rule} n{at}" for at, rule in enumerate(before)]
    text = "\n".join([*numbered, "auth requisite pam_deny.so", *after, ""])
    hooked = install.with_failures(text)
    assert install.without(hooked) == text
    hook = "exec.so quiet seteuid /usr/lib/vedette/pam-hook 2"
    seen = [
        (module, ["deny.so" if target == hook else target for target in leads])
        for module, leads in targets(hooked)
        if module != "2"
    ]
    assert seen == targets(text)


def test_the_login_hook_stands_above_whatever_reads_the_users_environment():
    """Only pam_selinux's close may be before it; a service that includes another gets none."""
    service = "session required pam_selinux.so close\nsession required pam_env.so user_readenv=1\n"
    assert install.with_logins(service).splitlines()[1] == install.LOGIN_LINE
    assert install.without(install.with_logins(service)) == service
    assert install.with_logins("session include su\n") == "session include su\n"


def device(root: Path) -> dict[str, str]:
    """A root directory with two PAM files; returns their texts."""
    files = {"common-auth": DEBIAN, "sshd": "@include common-auth\n@include common-session\n"}
    (root / "etc/pam.d").mkdir(parents=True)
    for name, text in files.items():
        (root / "etc/pam.d" / name).write_text(text)
    return files


def texts(root: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (root / "etc/pam.d").iterdir()}


def run(action: str, root: Path, answer: str = "") -> str:
    """The installer as an operator runs it."""
    argv = [sys.executable, str(PACKAGING / "install.py"), action, "--root", str(root)]
    return subprocess.run(argv, input=answer, text=True, capture_output=True).stdout


def test_the_installer_shows_its_edits_and_makes_them_only_when_told(tmp_path: Path):
    """Twice installed is once installed; removed is as before."""
    before = device(tmp_path)
    assert "+auth [default=ignore] pam_exec.so" in run("show", tmp_path)
    assert "+session [default=ignore] pam_exec.so" in run("install", tmp_path, "n\n")
    assert texts(tmp_path) == before
    assert not (tmp_path / install.HOOK).exists()
    run("install", tmp_path, "y\n")
    after = texts(tmp_path)
    assert after != before
    assert run("install", tmp_path, "y\n") == ""
    assert texts(tmp_path) == after
    assert (tmp_path / install.LOG).stat().st_mode & 0o777 == 0o600
    assert "-auth [default=ignore] pam_exec.so" in run("remove", tmp_path, "y\n")
    assert texts(tmp_path) == before
    assert not (tmp_path / install.HOOK).exists()


async def test_without_the_hook_the_collector_says_what_to_install(tmp_path: Path):
    """Login_UsePAM on a device that has no PAM log."""
    collector = LoginCollector(tmp_path / "state.json", tmp_path)
    with pytest.raises(Unavailable, match="install the PAM hook"):
        await collector.start(Settings(login_use_pam=True))


CLIENT = """
import ctypes, sys

lib, libc = ctypes.CDLL("libpam.so.0"), ctypes.CDLL(None)

class Message(ctypes.Structure):
    _fields_ = [("style", ctypes.c_int), ("text", ctypes.c_char_p)]

class Response(ctypes.Structure):
    _fields_ = [("text", ctypes.c_void_p), ("code", ctypes.c_int)]

TALK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.POINTER(Message)),
    ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)

class Conversation(ctypes.Structure):
    _fields_ = [("talk", TALK), ("data", ctypes.c_void_p)]

libc.calloc.restype = libc.strdup.restype = ctypes.c_void_p

def answer(count, messages, responses, data):
    given = libc.calloc(count, ctypes.sizeof(Response))
    for at in range(count):
        Response.from_address(given + at * ctypes.sizeof(Response)).text = libc.strdup(password)
    responses[0] = given
    return 0

service, user, password, *then = (word.encode() for word in sys.argv[1:])
talk, handle = Conversation(TALK(answer)), ctypes.c_void_p()
assert lib.pam_start(service, user, ctypes.byref(talk), ctypes.byref(handle)) == 0
lib.pam_set_item(handle, 4, b"192.0.2.7")
lib.pam_set_item(handle, 3, b"pts/9")
code = lib.pam_authenticate(handle, 0)
if code == 0 and then:
    code = lib.pam_open_session(handle, 0)
    lib.pam_close_session(handle, 0)
lib.pam_end(handle, code)
print(code)
"""
"""Signs in by libpam, as login does: service, user, password; a fourth word opens a session too."""

SUCCESS, AUTH_ERR, USER_UNKNOWN = "0", "7", "10"

BREAKAGES = {
    "whole": "true",
    "missing": "rm /usr/lib/vedette/pam-hook",
    "not executable": "chmod -x /usr/lib/vedette/pam-hook",
    "failing": "printf '#!/bin/sh\\nexit 1\\n' > /usr/lib/vedette/pam-hook",
    "killed": "printf '#!/bin/sh\\nkill -9 $$\\n' > /usr/lib/vedette/pam-hook",
    "without interpreter": "printf '#!/nowhere\\n' > /usr/lib/vedette/pam-hook",
    "not a program": "printf '\\177ELF' > /usr/lib/vedette/pam-hook",
    "on a full disk": "mount -t tmpfs -o size=4k full /var/log/vedette; cp /bin/sh /var/log/vedette || true",
    "with a pipe for a log": "rm /var/log/vedette/pam.log; mkfifo /var/log/vedette/pam.log",
    "without its directory": "rm -r /var/log/vedette",
}

needs_root = pytest.mark.skipif(bool(obstacle()), reason=obstacle())


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path_factory.mktemp("pam"))
    box.add_user("alice", PASSWORD)
    yield box
    box.close()


@pytest.fixture
def hooked(box: Sandbox) -> Iterator[Sandbox]:
    """The box with the hook, freshly installed and removed again."""
    box.run("sh", "-c", "umount /var/log/vedette; rm -rf /var/log/vedette")
    installer = (sys.executable, str(PACKAGING / "install.py"))
    box.run(*installer, "install", "--yes")
    yield box
    box.run(*installer, "remove", "--yes")


def sign_in(box: Sandbox, user: str, password: str, *then: str, service: str = "login") -> str:
    return box.run(sys.executable, "-c", CLIENT, service, user, password, *then).stdout.strip()


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_wrong_password_is_refused_whatever_becomes_of_the_hook(hooked: Sandbox, breakage: str):
    """It fails closed for those who may not come in, and keeps nobody out who may."""
    hooked.run("sh", "-c", BREAKAGES[breakage])
    assert sign_in(hooked, "alice", "wrong") == AUTH_ERR
    assert sign_in(hooked, "nobody2", PASSWORD) in {AUTH_ERR, USER_UNKNOWN}
    assert sign_in(hooked, "alice", PASSWORD, "session") == SUCCESS


@pytest.mark.root
@needs_root
async def test_the_collector_tells_what_the_hook_wrote(hooked: Sandbox, tmp_path: Path):
    """A failure, an unknown user whose name forges nothing, a login, and its end with the process."""
    collector = LoginCollector(tmp_path / "state.json", hooked.root)
    await collector.start(Settings(login_use_pam=True))
    forged = "x,,,0\n2026-11-20T14:56:23Z,1,2,open_session,login,root,,tty1,0"
    for user, password in (("alice", "wrong"), (forged, "x"), ("alice", PASSWORD)):
        await asyncio.to_thread(sign_in, hooked, user, password, "session")
    told = [event.payload for event in (await collector.stop()).events]
    assert [(one.operation, one.user_name, one.executable, one.remote_address) for one in told] == [
        ("LoginFailed", "alice", "pts/9", "192.0.2.7"),
        ("LoginFailed", "UNKNOWN", "pts/9", "192.0.2.7"),
        ("Login", "alice", "pts/9", "192.0.2.7"),
        ("Logout", "alice", "pts/9", "192.0.2.7"),
    ]
    assert told[2].process_id == told[3].process_id


PRELOAD = (
    "#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void run(void)"
    ' { if (getuid() == 0) { unsetenv("LD_PRELOAD"); close(open("/run/owned", 64 | 1, 0600)); } }\n'
)


@pytest.mark.root
@needs_root
def test_the_users_environment_is_never_the_hooks(hooked: Sandbox):
    """Debian's sshd lets a user's file set LD_PRELOAD for what PAM runs as root after it.

    The control: a hook at close_session, as it is often recommended, does run the user's code as root.
    """
    if "user_readenv=1" not in Path("/etc/pam.d/sshd").read_text():
        pytest.skip("needs an sshd service with user_readenv=1")
    code = "#include <fcntl.h>\n" + PRELOAD
    try:
        hooked.run("cc", "-shared", "-fPIC", "-x", "c", "-o", "/home/alice/evil.so", "-", text=code)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs a C compiler")
    (hooked.root / "home/alice/.pam_environment").write_text("LD_PRELOAD DEFAULT=/home/alice/evil.so\n")
    assert sign_in(hooked, "alice", PASSWORD, "session", service="sshd") == SUCCESS
    assert not (hooked.root / "run/owned").exists()
    line = "session [default=ignore] pam_exec.so quiet type=close_session /usr/bin/true"
    hooked.run("sh", "-c", f"echo '{line}' >> /etc/pam.d/sshd")
    assert sign_in(hooked, "alice", PASSWORD, "session", service="sshd") == SUCCESS
    assert (hooked.root / "run/owned").exists()
