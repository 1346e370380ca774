"""What of a machine's package settings reaches an image build."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ops.errors import OpsError
from ops.runtimes import build_secrets

INDEX = "index-url"  # spelled so that no file of ours sets one
CONFIG = f"""\
:env:.default-timeout='180'
global.cert='/etc/ssl/company.pem'
global.extra-{INDEX}='https://a.example/simple\\nhttps://b.example/simple file:///opt/wheels'
global.find-links='/opt/wheels'
global.timeout='5'
install.{INDEX}='https://c.example/simple'
download.{INDEX}='https://not-for-us.example/simple'
"""


def test_the_way_to_an_index_is_kept_and_what_is_on_this_disk_is_not() -> None:
    text = build_secrets.pip_conf(build_secrets.parse(CONFIG), {}, "")
    assert text.splitlines() == [
        "[global]",
        f"{INDEX} = https://c.example/simple",
        f"extra-{INDEX} = https://a.example/simple https://b.example/simple",
        "timeout = 180",
    ]
    assert "wheels" not in text
    assert "not-for-us" not in text
    assert "cert" not in text


def test_the_environment_wins_over_the_file() -> None:
    lines = "global.proxy='http://file:1'\n:env:.proxy='http://environment:2'\n"
    for text in (lines, "\n".join(reversed(lines.splitlines()))):
        assert build_secrets.parse(text)["proxy"] == "http://environment:2"


def test_a_bundle_is_named_as_the_build_sees_it(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("a certificate")
    environ = {"SSL_CERT_FILE": str(bundle), "HTTPS_PROXY": "http://proxy:3128"}
    assert build_secrets.ca_bundle({}, environ) == str(bundle)
    assert build_secrets.ca_bundle({"cert": str(tmp_path / "gone.pem")}, {}) == ""
    text = build_secrets.pip_conf({}, environ, str(bundle))
    assert "cert = /run/secrets/ca_bundle" in text
    assert "proxy = http://proxy:3128" in text


def test_files_are_made_for_the_build_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_secrets, "pip_config", lambda: f"global.{INDEX}='https://c.example/simple'\n")
    with build_secrets.handed({}) as given:
        file = Path(given["BUILD_PIP_CONF"])
        assert "https://c.example/simple" in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o644, "user 1000 of a container reads it"
        assert file.parent.stat().st_mode & 0o777 == 0o700, "nobody else on this machine does"
        assert given["BUILD_CA_BUNDLE"] == os.devnull
    assert not Path(given["BUILD_PIP_CONF"]).exists()


def test_what_the_user_set_is_left_alone() -> None:
    with build_secrets.handed({"BUILD_PIP_CONF": "mine.conf", "BUILD_CA_BUNDLE": "mine.pem"}) as given:
        assert given == {"BUILD_PIP_CONF": "mine.conf", "BUILD_CA_BUNDLE": "mine.pem"}


def test_a_bundle_that_no_build_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_secrets, "pip_config", lambda: "")
    bundle = tmp_path / "large.pem"
    bundle.write_bytes(b"x" * (build_secrets._LARGEST + 1))
    with pytest.raises(OpsError, match="larger than the 500 KiB"), build_secrets.handed(
        {"SSL_CERT_FILE": str(bundle)}
    ):
        pass
