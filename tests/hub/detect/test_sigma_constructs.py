"""What rules that were written elsewhere are made of: each construct finds what it says, and not its like."""

from pathlib import Path

import pytest
import yaml

from vedette.hub.detect import survey
from vedette.hub.detect.examples import steps
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.rules import load

PROCESS = {"product": "linux", "category": "process_creation"}
NETWORK = {"product": "linux", "category": "network_connection"}
FILES = {"product": "linux", "category": "file_event"}
LOGINS = {"product": "linux", "service": "sshd"}


def written(directory: Path, logsource: dict[str, str], condition: str, **searches: object) -> Path:
    """A rule file."""
    path = directory / "rule.yml"
    detection = searches | {"condition": condition}
    path.write_text(
        yaml.safe_dump({"title": "T", "level": "low", "logsource": logsource, "detection": detection})
    )
    return path


def fires(path: Path, *events: dict[str, object]) -> bool:
    """Whether a rule matches one of these events, which come together."""
    loaded = load(path, built_in=False)
    assert not loaded.refused
    judge = Judge(loaded.selections.values())
    observed = [step.event for step in steps([*events]) if step.event]
    matched = bool(judge.judge(observed))
    judge.close()
    return matched


def run(line: str, **fields: object) -> dict[str, object]:
    return {"Process": {"commandline": line} | fields}


@pytest.mark.parametrize(
    ("search", "found", "other"),
    [
        ({"CommandLine|contains": "stratum+tcp://"}, "x -o stratum+tcp://h:1", "x -o stratum"),
        ({"CommandLine|contains": ["pool.", "--nicehash"]}, "x --nicehash", "x --nice"),
        ({"CommandLine|contains|all": ["of=", "/mem"]}, "dd if=a of=/proc/1/mem", "dd if=/mem"),
        ({"CommandLine|startswith": "apt "}, "apt update", "rapt apt "),
        ({"CommandLine|endswith": ["| sh", "/bin/bash"]}, "env /bin/bash", "/bin/bash -l"),
        ({"Image|endswith": "/doas"}, "doas id", "man doas"),
        ({"CommandLine|re": r"spawn\(.(/bin/)?(ba)?sh"}, "python3 -c spawn('sh')", "python3 -c spawn('ls')"),
        ({"CommandLine|re|i": "WHOAMI$"}, "whoami", "whoami -h"),
        ({"CommandLine|contains|cased": "Exec"}, "x Exec", "x exec"),
        ({"CommandLine|base64offset|contains": "#!/bin/bash"}, "echo IyEvYmluL2Jhc2gK", "echo IyEv"),
        ({"CommandLine|base64|contains": "shadow"}, "echo c2hhZG93", "echo shadow"),
        ({"CommandLine|wide|base64offset|contains": "ping"}, "echo cABpAG4AZwA=", "echo cGluZw=="),
        ({"CommandLine|contains|windash": " -exec "}, "find /exec a", "find -exec"),
        ({"CommandLine": "ls*?.txt"}, "ls -l a.txt", "ls.txt"),
    ],
)
def test_a_modifier_finds_what_it_says(tmp_path: Path, search: dict[str, object], found: str, other: str):
    """And passes over what only looks like it."""
    path = written(tmp_path, PROCESS, "one", one=search)
    assert fires(path, run(found))
    assert not fires(path, run(other))


def test_numbers_and_fields_are_compared(tmp_path: Path):
    """A number with a bound, a field with another."""
    bound = written(tmp_path, PROCESS, "one", one={"UserId|gte": 1000})
    assert fires(bound, run("id", user_id=1000))
    assert not fires(bound, run("id", user_id=999))
    same = written(tmp_path, PROCESS, "one", one={"CommandLine|fieldref": "Image"})
    assert fires(same, run("/bin/true", executable="/bin/true"))
    assert not fires(same, run("/bin/true x", executable="/bin/true"))


@pytest.mark.parametrize(
    ("condition", "found", "other"),
    [
        ("1 of selection_*", "a", "d"),
        ("all of selection_*", "a b", "a"),
        ("1 of them", "c", "d"),
        ("selection_a and not 1 of filter_*", "a", "a c"),
        ("selection_a and not selection_b or filter_c", "c", "a b"),
    ],
)
def test_a_condition_joins_searches(tmp_path: Path, condition: str, found: str, other: str):
    """As the order of Sigma's operators has it."""
    searches = {
        "selection_a": {"CommandLine|contains": "a"},
        "selection_b": {"CommandLine|contains": "b"},
        "filter_c": [{"CommandLine|contains": "c"}, {"CommandLine|contains": "k"}],
    }
    path = written(tmp_path, PROCESS, condition, **searches)
    assert fires(path, run(found))
    assert not fires(path, run(other))


def test_addresses_are_in_networks_or_not(tmp_path: Path):
    """Of either version; a number is a port however it is written."""
    path = written(
        tmp_path,
        NETWORK,
        "port and not home",
        port={"DestinationPort": [4444, 8531], "Initiated": "true"},
        home={"DestinationIp|cidr": ["10.0.0.0/8", "fe80::/10"]},
    )

    def connection(address: str, port: int = 4444) -> dict[str, object]:
        return {"NetworkActivity": {"remote_address": address, "remote_port": port, "local_port": 50_000}}

    assert fires(path, connection("203.0.113.5"))
    assert fires(path, connection("2001:db8::1"))
    assert not fires(path, connection("10.1.2.3"))
    assert not fires(path, connection("fe80::1"))
    assert not fires(path, connection("203.0.113.5", 443))


def test_files_are_told_by_their_path(tmp_path: Path):
    """Created or changed ones; reading one is nothing new."""
    path = written(tmp_path, FILES, "one", one={"TargetFilename|startswith": "/etc/sudoers.d/"})
    assert fires(path, {"FileSystem": {"mask": "Created", "path": "/etc/sudoers.d/x"}})
    assert not fires(path, {"FileSystem": {"mask": "Access", "path": "/etc/sudoers.d/x"}})


def test_keywords_of_a_rule_for_any_log_are_looked_for_in_command_lines(tmp_path: Path):
    """One of them, or all where it says so."""
    linux = {"product": "linux"}
    any_of = written(tmp_path, linux, "keywords", keywords=["nc -lvvp ", "; mknod * p "])
    assert fires(any_of, run("nc -lvvp 4444"))
    assert fires(any_of, run("sh -c 'rm -f x; mknod x p && true'"))
    assert not fires(any_of, run("man nc"))
    all_of = written(tmp_path, linux, "keywords", keywords={"|all": ["pkexec", "XAUTHORITY"]})
    assert fires(all_of, run("env XAUTHORITY=x pkexec id"))
    assert not fires(all_of, run("pkexec id"))


def test_keywords_for_a_log_whose_text_nobody_sends_are_refused(tmp_path: Path):
    """Such a rule would load and never fire."""
    [refused] = load(
        written(tmp_path, LOGINS, "keywords", keywords=["Corrupted MAC"]), built_in=False
    ).refused
    assert refused.reason == "detection: keywords: Login events do not carry the text of a log"


SERVER = run("/opt/app/bin/java -jar app.jar", process_id=700, executable="/opt/app/bin/java")
CHILD = run("sh -c id", process_id=701, parent_process_id=700)


def test_a_parent_is_known_by_what_it_ran(tmp_path: Path):
    """Its program and its command line, whichever of the two events comes first in a batch."""
    path = written(
        tmp_path,
        PROCESS,
        "one",
        one={
            "ParentImage|endswith": "/java",
            "ParentCommandLine|contains": "app.jar",
            "Image|endswith": "/sh",
        },
    )
    assert fires(path, SERVER, CHILD)
    assert not fires(path, CHILD)
    assert not fires(path, SERVER, run("sh -c id", process_id=701, parent_process_id=1))


def test_a_parent_is_remembered_from_batch_to_batch_and_device_by_device(tmp_path: Path):
    """What a process id stood for is forgotten when another process has it."""
    path = written(tmp_path, PROCESS, "one", one={"ParentImage|endswith": "/java"})
    judge = Judge(load(path, built_in=False).selections.values())
    server, child, other = (step.event for step in steps([SERVER, CHILD, run("ls", process_id=700)])[:3])
    assert server
    assert child
    assert other
    assert not judge.judge([server])
    assert [match.event.id for match in judge.judge([child])] == [child.id]
    assert not judge.judge([child._replace(device="another")])
    assert not judge.judge([other])
    assert not judge.judge([child._replace(first=other.first + 1)])
    judge.close()


@pytest.mark.parametrize(
    ("logsource", "search", "reason"),
    [
        (PROCESS, {"CurrentDirectory": "/tmp"}, "process_creation events have no CurrentDirectory"),
        (FILES, {"Image|endswith": "/wget"}, "file_event events have no Image"),
        ({"product": "linux", "service": "auditd"}, {"type": "EXECVE"}, "no event here is of service auditd"),
        ({"product": "windows"}, {"Image": "x"}, "product windows is not Linux"),
        (PROCESS, {"CommandLine|contains_any": "x"}, "Unknown modifier"),
    ],
)
def test_what_no_event_tells_is_refused(
    tmp_path: Path, logsource: dict[str, str], search: dict[str, str], reason: str
):
    """With what is missing."""
    [refused] = load(written(tmp_path, logsource, "one", one=search), built_in=False).refused
    assert reason in refused.reason


def test_a_directory_is_counted_by_log_source(tmp_path: Path):
    """Files that load, files that do not and why, most frequent reason first; none is left out."""
    for number in range(2):
        (tmp_path / f"{number}").mkdir()
        written(tmp_path / f"{number}", {"product": "linux", "service": "auditd"}, "one", one={"key": "x"})
    (tmp_path / "2").mkdir()
    written(tmp_path / "2", PROCESS, "one", one={"Image": "x"})
    (tmp_path / "broken.yml").write_text("title: [")
    counted = survey.tallies(survey.survey(tmp_path))
    assert [(t.source, t.loaded, t.refused) for t in counted] == [
        ("linux process_creation", 1, 0),
        ("linux service auditd", 0, 2),
        ("no log source", 0, 1),
    ]
    assert counted[1].reasons == [("logsource: no event here is of service auditd", 2)]
