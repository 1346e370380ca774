"""uv gets the settings that pip has on this machine, or does not install at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from ops.runtimes import build_secrets, uv

INDEX = "index-url"
LISTED = f"""\
global.{INDEX}='INDEX'
global.extra-{INDEX}='\\nTWO\\nTHREE'
global.trusted-host='one two'
global.timeout='60'
install.find-links='/wheels'
:env:.disable-pip-version-check='1'
:env:.timeout='90'
"""


def test_every_setting_of_pip_s_arrives() -> None:
    found = uv.environment(build_secrets.parse(LISTED), {"PATH": "/bin"})
    assert found == {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": "INDEX",
        "UV_INDEX": "TWO THREE",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "one two",
        "UV_HTTP_TIMEOUT": "90",
        "UV_FIND_LINKS": "/wheels",
    }


def test_a_ca_bundle_and_a_proxy_arrive(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    found = uv.environment({"cert": "/ca", "proxy": "PROXY"}, {"SSL_CERT_FILE": "/other"})
    assert found == {"SSL_CERT_FILE": "/ca", "ALL_PROXY": "PROXY"}
    found = uv.environment({}, {"REQUESTS_CA_BUNDLE": str(bundle)})
    assert found is not None
    assert found["SSL_CERT_FILE"] == str(bundle)


@pytest.mark.parametrize(("value", "arrives"), [("1", "1"), ("true", "1"), ("0", None), ("false", None)])
def test_no_index_is_a_switch(value: str, arrives: str | None) -> None:
    found = uv.environment({"no-index": value}, {})
    assert found is not None
    assert found.get("UV_NO_INDEX") == arrives


def test_what_was_set_for_uv_itself_wins() -> None:
    own = {"UV_DEFAULT_INDEX": "MINE"}
    assert uv.environment({"index-url": "PIPS"}, own) == own
    assert uv.environment({"index-url": "PIPS"}, {"UV_INDEX_URL": "MINE"}) == {"UV_INDEX_URL": "MINE"}


@pytest.mark.parametrize("setting", ["client-cert", "keyring-provider", "a-setting-of-tomorrow"])
def test_with_a_setting_that_uv_has_no_word_for_pip_installs(setting: str) -> None:
    assert uv.environment({setting: "x"}, {}) is None


def test_settings_that_change_nothing_here_are_no_hindrance() -> None:
    assert uv.environment({"constraint": "/c.txt", "no-input": "1"}, {}) == {}
