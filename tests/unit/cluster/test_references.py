"""What models and releases are called in a registry."""

from __future__ import annotations

import pytest

from cluster.errors import ClusterError
from cluster.registry.references import RegistrySettings, local, parse

DIGEST = "sha256:" + "0a" * 32
SETTINGS = RegistrySettings("r.example:5000", "team/models", plain=False)


@pytest.mark.parametrize(
    ("text", "model", "reference"),
    [
        ("resnet50", "resnet50", "live"),
        ("resnet50:live", "resnet50", "live"),
        ("ResNet_50:12", "ResNet_50", "12"),
        (f"resnet50@{DIGEST}", "resnet50", DIGEST),
    ],
)
def test_a_release_is_named(text: str, model: str, reference: str) -> None:
    found = parse(text, SETTINGS)
    assert (found.model, found.reference) == (model, reference)
    assert found.repository == f"team/models/{model.lower()}"
    assert found.by_digest == reference.startswith("sha256:")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a:",
        "a@",
        "a@sha256:12",
        f"a@{DIGEST[:-1]}G",
        "a:b c",
        "a:" + "x" * 129,
        "a/b",
        "../a",
        "_a",
        "a___b",
    ],
)
def test_what_names_none_is_refused(text: str) -> None:
    with pytest.raises(ClusterError):
        parse(text, SETTINGS)


def test_a_model_may_lie_at_the_root() -> None:
    assert parse("m", RegistrySettings.of({"REGISTRY": "r.example"})).repository == "m"


@pytest.mark.parametrize(
    ("environ", "host", "path", "plain"),
    [
        ({"REGISTRY": "r.example"}, "r.example", "", False),
        ({"REGISTRY": "r.example:5000/a/b/"}, "r.example:5000", "a/b", False),
        ({"REGISTRY": "r.example", "REGISTRY_INSECURE": "1"}, "r.example", "", True),
        ({"REGISTRY": "localhost:5000"}, "localhost:5000", "", True),
        ({"REGISTRY": "[::1]:5000/x"}, "[::1]:5000", "x", True),
    ],
)
def test_the_setting_says_where(environ: dict[str, str], host: str, path: str, plain: bool) -> None:
    found = RegistrySettings.of(environ)
    assert (found.host, found.path, found.plain) == (host, path, plain)


@pytest.mark.parametrize(
    "text", ["", "http://r.example", "r.example:0", "r.example:70000", "r.example/A", "r.example/a//b", "a b"]
)
def test_what_is_no_registry_is_refused(text: str) -> None:
    with pytest.raises(ClusterError):
        RegistrySettings.of({"REGISTRY": text})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:5000", "127.9.9.9", "[::1]"])
def test_this_machine(host: str) -> None:
    assert local(host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1.example.org", "localhost.example.org", "10.0.0.1", "[2001::1]:80"]
)
def test_another_machine(host: str) -> None:
    assert not local(host)
