"""`vedette hub init --proxy` names the load balancers in front, or says what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from vedette.cli import main
from vedette.hub.settings import HubError, HubState


def test_balancers_are_named_kept_and_taken_back(tmp_path: Path):
    """Repeating `init` for something else keeps them."""
    init, state = ["hub", "init", "--state", str(tmp_path)], HubState(tmp_path)
    for given, kept in (
        (["--proxy", "10.0.0.5", "--proxy", "2001:db8::/64"], ("10.0.0.5", "2001:db8::/64")),
        (["--retention-days", "7"], ("10.0.0.5", "2001:db8::/64")),
        (["--proxy", "none"], ()),
    ):
        assert main([*init, *given]) == 0
        assert state.load().proxies == kept


@pytest.mark.parametrize("proxy", ["balancer.example.org", "10.0.0.5/24", ""])
def test_what_is_no_address_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], proxy: str):
    """By command and from a file that was written by hand; the settings stay as they were."""
    assert main(["hub", "init", "--state", str(tmp_path), "--proxy", proxy]) == 1
    assert "proxies: " in capsys.readouterr().err
    assert not HubState(tmp_path).settings_file.exists()
    HubState(tmp_path).settings_file.write_text(f'{{"host_names": ["hub"], "proxies": ["{proxy}"]}}')
    with pytest.raises(HubError, match="proxies: "):
        HubState(tmp_path).load()
