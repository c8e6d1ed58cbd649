"""The catalogue is the benchmark's: every number has its check, and every check its words."""

import re

import pytest

from vedette.agent.baseline.catalogue import all_checks, chosen_checks
from vedette.agent.baseline.declare import CHECKS, Profile, check, passed
from vedette.wire.baseline import GROUP_OF, GROUPS, check_id, disabled_checks, disabled_groups, sort_key
from vedette.wire.twin import InvalidSettings, settings_from

BENCHMARK = """
1.1: 1.1.1.1-8 1.1.2 3-5 6 7 8-10 11 12 13 14 15-17 18-20 21 22 23
1.2-1.8: 1.2.1 1.2.2 1.3.1-2 1.4.1-4 1.5.1-4 1.6.1.1 1.6.2.1-6 1.6.3.1-2 1.7.1.1-6 1.7.2 1.8
2: 2.1.1-10 2.2.1.1-4 2.2.2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 2.3.1-5
3: 3.1.1-2 3.2.1-9 3.3.1-5 3.4.1-4 3.5.1.1-4 3.5.2.1-4 3.5.3 3.6 3.7
4: 4.1.1.1-3 4.1.2-19 4.2.1.1-6 4.2.2.1-3 4.2.3 4.3
5: 5.1.1-8 5.2.1-23 5.3.1-4 5.4.1.1-5 5.4.2 3 4 5 5.5 5.6
6: 6.1.1 6.1.2-9 10 11 12 13 14 6.2.1 2-4 5 6 7-9 10 11 12-13 14 15 16-19 20
"""
"""CIS Distribution Independent Linux Benchmark v2.0.0, chapter by chapter; a bare number or range goes on
in the section of the number before it."""


def benchmark_numbers() -> list[str]:
    """The numbers that the text above stands for."""
    numbers: list[str] = []
    for word in re.sub(r"^.*?:", "", BENCHMARK, flags=re.MULTILINE).split():
        start, _, last = word.partition("-")
        section, dot, first = start.rpartition(".")
        section = section if dot else numbers[-1].rpartition(".")[0]
        numbers += [f"{section}.{n}" for n in range(int(first), int(last or first) + 1)]
    return numbers


def test_the_benchmark_has_237_checks_and_the_catalogue_has_the_same():
    """Numbers, none missing, none added."""
    numbers = benchmark_numbers()
    assert len(numbers) == len(set(numbers)) == 237
    assert set(GROUP_OF) == set(numbers)


def test_every_number_of_the_catalogue_is_declared_once_in_order():
    """The chapters together declare the catalogue."""
    assert [check.number for check in all_checks()] == sorted(GROUP_OF, key=sort_key)


@pytest.mark.parametrize("number", sorted(GROUP_OF, key=sort_key))
def test_a_check_says_what_it_expects_and_what_to_do(number: str):
    """Words are there, are sentences, and fit an event."""
    all_checks()
    declared = CHECKS[number]
    assert 20 <= len(declared.description) <= 250
    assert 15 <= len(declared.remediation) <= 700
    assert declared.description.rstrip(")").endswith(".")
    assert declared.remediation.endswith(".")


def test_no_two_checks_have_the_same_words():
    """A description tells its check apart from all others."""
    descriptions = [check.description for check in all_checks()]
    assert len(set(descriptions)) == len(descriptions)


def test_the_full_profile_switches_nothing_off():
    """`full` means every check, and no other profile is larger."""
    checks = all_checks()
    assert all(Profile.FULL in check.profiles for check in checks)
    sizes = {p: sum(p in check.profiles for check in checks) for p in Profile}
    assert sizes[Profile.DEVICE] < sizes[Profile.SERVER] < sizes[Profile.FULL] == 237


def test_an_id_has_the_documented_form_and_no_space():
    """`CIS-debian-9-Filesystem-1.1.2`, whatever the distribution calls itself."""
    assert check_id("debian", "9", "Filesystem", "1.1.2") == "CIS-debian-9-Filesystem-1.1.2"
    assert check_id("a b-c", "1/2", "Network Parameters Host", "3.1.1") == (
        "CIS-a_b_c-1_2-Network_Parameters_Host-3.1.1"
    )


def test_the_documented_group_names_are_groups():
    """The example of the micro agent's documentation works as it stands."""
    named = disabled_groups("Time Synchronization, Network Parameters Host")
    assert named == {"Time Synchronization", "Network Parameters Host"}
    assert disabled_groups("ssh_server,  tcp wrappers,") == {"SSH Server", "TCP Wrappers"}


def test_groups_and_numbers_can_be_left_out():
    """What is named is not run; everything else is."""
    checks = chosen_checks(disabled_groups("Time Synchronization"), disabled_checks("3.3.5,2.2.1.1"))
    left_out = set(GROUP_OF) - {check.number for check in checks}
    assert left_out == {*GROUPS["Time Synchronization"], "3.3.5"}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("Baseline_GroupsDisabled", "Cron, Crom", "no such group: Crom"),
        ("Baseline_ChecksDisabled", "1.1.2, 1.1.99", "no such check: 1.1.99"),
        ("Baseline_CustomChecksSha256", "beef", "regex"),
        ("Baseline_Profile", "desktop", "desktop"),
        ("Baseline_Results", "some", "some"),
        ("Baseline_CpuShare", 0, ">= 1"),
    ],
)
def test_a_wrong_setting_is_refused_with_the_reason(key: str, value: object, reason: str):
    """The twin's verdict names the key and what is wrong with its value."""
    with pytest.raises(InvalidSettings) as refused:
        settings_from({key: value})
    assert set(refused.value.fields) == {key}
    assert reason in refused.value.fields[key]


def test_a_number_that_is_unknown_or_taken_cannot_be_declared():
    """Two chapters cannot claim one number, nor invent one."""
    all_checks()
    words = ("A sentence that says what is expected.", "What to do about it.")
    with pytest.raises(ValueError, match=r"no check 9\.9"):
        check("9.9", *words, passing={}, failing={})
    with pytest.raises(ValueError, match="twice"):
        check("1.8", *words, passing={}, failing={})(lambda _: passed())
