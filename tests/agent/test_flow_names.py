"""Names of flows: how long an address keeps one, and what first bytes leave behind."""

from vedette.agent.collectors import flow_names
from vedette.agent.collectors.flow_names import TTL_MIN, FlowNames, HostNames
from vedette.agent.sources.dnswire import Address, Answer
from vedette.agent.sources.flow import TCP, Flow, Identity


def answer(name: str, *addresses: str, ttl: int = 300) -> Answer:
    return Answer(name, "A", "NOERROR", addresses, tuple(Address(text, ttl) for text in addresses))


def flow(port: int, number: int = 0, accepted: bool | None = False) -> Flow:
    return Flow(
        identity=Identity(40_000 + number, port, TCP, "192.0.2.1", "198.51.100.1"), at=0.0, accepted=accepted
    )


class TestHostNames:
    def test_a_name_stands_from_the_answer_until_its_time_is_over(self):
        """Neither before nor after; every address of an answer has the name."""
        names = HostNames()
        names.learn(answer("a.test", "198.51.100.1", "198.51.100.2"), 1000.0)
        assert [names.name("198.51.100.1", at) for at in (999, 1000, 1300, 1301)] == [
            "",
            "a.test",
            "a.test",
            "",
        ]
        assert names.name("198.51.100.2", 1001) == "a.test"
        assert names.name("198.51.100.3", 1001) == ""

    def test_short_times_are_stretched_and_long_ones_cut(self):
        """A name with no time to live is used at once all the same; a week is too long."""
        names = HostNames()
        names.learn(answer("short.test", "198.51.100.1", ttl=0), 0.0)
        names.learn(answer("long.test", "198.51.100.2", ttl=2**31), 0.0)
        assert names.name("198.51.100.1", TTL_MIN) == "short.test"
        assert names.name("198.51.100.2", 86_401) == ""

    def test_the_latest_name_counts_and_asking_again_prolongs(self):
        """An address that got another name has that from then on."""
        names = HostNames()
        names.learn(answer("a.test", "198.51.100.1"), 0.0)
        names.learn(answer("a.test", "198.51.100.1"), 200.0)
        assert [names.name("198.51.100.1", at) for at in (0, 500)] == ["a.test", "a.test"]
        names.learn(answer("b.test", "198.51.100.1"), 400.0)
        assert [names.name("198.51.100.1", at) for at in (399, 400)] == ["", "b.test"]

    def test_the_oldest_are_forgotten(self, monkeypatch):
        """However many names are asked for, memory is bounded."""
        monkeypatch.setattr(flow_names, "HOSTS_MAX", 3)
        names = HostNames()
        for number in range(5):
            names.learn(answer(f"{number}.test", f"10.0.0.{number}"), 0.0)
        assert [names.name(f"10.0.0.{number}", 1) for number in range(5)] == [
            "",
            "",
            "2.test",
            "3.test",
            "4.test",
        ]


class TestFlowNames:
    def test_the_first_side_that_says_something_counts(self):
        """A reply that is known does not undo what the question was, nor the other way round."""
        names = FlowNames()
        names.learn(flow(8123).identity, b"\x00\x01")
        names.learn(flow(8123).identity, b"SSH-2.0-x")
        names.learn(flow(8123).identity, b"HTTP/1.1 200 OK")
        assert names.named(flow(8123)).application == "SSH"

    def test_without_first_bytes_the_port_speaks(self):
        """And is silent when they contradict it."""
        names = FlowNames()
        assert names.named(flow(443)).application == "HTTPS"
        names.learn(flow(443).identity, b"\x00\x01\x02")
        assert names.named(flow(443)).application == ""
        assert names.named(flow(443, 1)).application == "HTTPS"

    def test_the_oldest_flows_are_forgotten(self, monkeypatch):
        """However many connections there are, memory is bounded."""
        monkeypatch.setattr(flow_names, "FLOWS_MAX", 2)
        names = FlowNames()
        for number in range(4):
            names.learn(flow(9000, number).identity, b"SSH-2.0-x")
        assert [names.named(flow(9000, number)).application for number in range(4)] == ["", "", "SSH", "SSH"]
