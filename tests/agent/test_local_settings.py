"""Local files: who the agent is, and the settings it starts with."""

import logging
from pathlib import Path

import pytest

from vedette.agent.settings import (
    CACHED_TWIN,
    LocalError,
    load_cached,
    load_local,
    save_cached,
    write_private,
)
from vedette.wire.twin import Settings

GOOD = "HostName=hub.example;DeviceId=pump;ModuleId=m;SharedAccessKey=c2VjcmV0c2VjcmV0"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    directory = tmp_path / "config"
    directory.mkdir()
    write_private(directory / "connection_string.txt", (GOOD + "\r\n").encode())
    return directory


def test_the_directory_of_the_micro_agent_is_understood(config: Path, tmp_path: Path):
    """`connection_string.txt` and `ca.pem` beside it are found; the state directory is made private."""
    (config / "ca.pem").write_text("a certificate")
    local = load_local(config, tmp_path / "state")
    assert local.connection.identity.client_id == "pump/m"
    assert local.route.ca_file == config / "ca.pem"
    assert local.state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no hostname"),
        (b"HostName=h;DeviceId=d", "shared access key"),
        (b"HostName=h;DeviceId=d;SharedAccessKey=hunter2!", "shared access key: not base64"),
        (b"\xff\xfe", "utf-8"),
        (b"x" * 70_000, "larger than"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault_and_without_its_secret(
    config: Path, tmp_path: Path, content: bytes, reason: str
):
    """The message can be logged."""
    (config / "connection_string.txt").write_bytes(content)
    with pytest.raises(LocalError, match="connection_string") as caught:
        load_local(config, tmp_path / "state")
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_tells_how_to_get_one(tmp_path: Path):
    """A newcomer reads what to do."""
    with pytest.raises(LocalError, match="vedette device show"):
        load_local(tmp_path, tmp_path / "state")


def test_a_key_that_others_can_read_is_pointed_out(
    config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """As ssh does, but the agent goes on: a device must not fall silent over it."""
    (config / "connection_string.txt").chmod(0o644)
    load_local(config, tmp_path / "state")
    assert "chmod 600" in caplog.text


def test_accepted_settings_outlive_a_restart(tmp_path: Path):
    """A device that boots without network works as it was last told to."""
    save_cached(tmp_path, Settings(process_cache_size=9).document())
    assert load_cached(tmp_path) == Settings(process_cache_size=9)
    assert (tmp_path / CACHED_TWIN).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"Process_CacheSize": 0}', b'{"OfAnotherVersion": 1}', b"\xff"]
)
def test_a_damaged_cache_means_defaults(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture):
    """The agent starts whatever is in the file, and says that it does not use it."""
    (tmp_path / CACHED_TWIN).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert load_cached(tmp_path) == Settings()
    assert "cached twin" in caplog.text
