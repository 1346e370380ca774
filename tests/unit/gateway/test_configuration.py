"""haproxy.cfg and what it is made from, checked by the real HAProxy."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest
from support.gateway import haproxy

from gateway import certificate, configuration, contract, options
from gateway.configuration import files
from gateway.configuration.answers import GRPC_STATUS
from gateway.contract import Accepted, Contract
from gateway.errors import GatewayError
from gateway.servers import Server


def made(
    folder: Path,
    models: list[str],
    log_to: str = "",
    servers: Sequence[Server] | None = None,
    canaries: Mapping[str, Container[str]] = MappingProxyType({}),
    **environ: str,
) -> tuple[str, str]:
    """The configuration, and what HAProxy says of it."""
    given = options.from_environment({"GATEWAY_FOLDER": str(folder), **environ})
    text = configuration.text(given, models, 1 << 20, log_to, servers, canaries)
    (folder / files.CONFIG).write_text(text)
    for name in (files.KEYS, files.CONTRACTS, files.LIMITS, files.SERVERS, files.SHARES, files.SHADOWS):
        (folder / name).touch()
    if not (folder / files.CERTIFICATE).exists():
        pem = certificate.pem(None, folder / "own.pem", "127.0.0.1")
        (folder / files.CERTIFICATE).write_bytes(pem)
    argv = [haproxy(), "-f", files.CONFIG, "-c"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return text, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("models", "environ"),
    [
        ([], {}),
        (["resnet50", "a.b-c_D"], {}),
        (["m"], {"TRITON_SERVERS": "10.0.0.1:8000:8001, 10.0.0.2:9000:9001 [::1]:1:2"}),
        (["m"], {"TRITON_SERVERS": "triton:8000:8001", "PICTURES_ADDRESS": "pictures:8010"}),
        (["m"], {"log_to": "127.0.0.1:5140"}),
        (["m"], {"GATEWAY_WAIT_SECS": "0", "EXIT_TIMEOUT_SECS": "0", "GATEWAY_ADDRESS": "127.0.0.1"}),
    ],
)
def test_haproxy_takes_it_gladly(models: list[str], environ: dict[str, str], tmp_path: Path) -> None:
    text, said = made(tmp_path, models, **environ)
    assert "WARNING" not in said, said
    for model in models:
        assert f"backend http_{model}\n" in text
        assert f"uri /v2/models/{model}/ready" in text


def test_every_server_is_checked_and_waiting_is_the_last_resort(tmp_path: Path) -> None:
    text, _ = made(tmp_path, ["m"], TRITON_SERVERS="10.0.0.1:8000:8001 10.0.0.2:8000:8001")
    backend = text.split("backend grpc_m\n")[1].split("\n\n")[0]
    servers = [line.split() for line in backend.splitlines() if line.strip().startswith("server")]
    assert [s[1] for s in servers] == ["triton1", "triton2", "hold"]
    assert all("check" in s for s in servers[:2])
    assert servers[2][-1] == "backup"


def test_the_generated_certificate_is_kept_and_names_this_machine(tmp_path: Path) -> None:
    own = tmp_path / "own.pem"
    first = certificate.pem(None, own, "192.0.2.7")
    assert certificate.pem(None, own, "192.0.2.7") == first
    assert own.stat().st_mode & 0o077 == 0, "it holds the private key"
    argv = ["openssl", "x509", "-in", str(own), "-noout", "-ext", "subjectAltName"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "DNS:localhost" in said
    assert "192.0.2.7" in said
    assert certificate.pem(Path(os.devnull), own, "") == first, "Compose mounts /dev/null where none is named"


def test_the_user_s_certificate_is_a_file_or_a_folder(tmp_path: Path) -> None:
    whole = certificate.pem(None, tmp_path / "x.pem", "localhost")
    key, _, rest = whole.partition(b"-----BEGIN CERTIFICATE-----")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(GatewayError, match="holds none of"):
        certificate.pem(folder, tmp_path / "own", "")
    (folder / "tls.crt").write_bytes(b"-----BEGIN CERTIFICATE-----" + rest)
    (folder / "tls.key").write_bytes(key)
    assert b"PRIVATE KEY" in certificate.pem(folder, tmp_path / "own", "")
    assert certificate.pem(tmp_path / "x.pem", tmp_path / "own", "") == whole
    with pytest.raises(GatewayError, match="must hold a certificate and its private key"):
        certificate.pem(folder / "tls.crt", tmp_path / "own", "")
    with pytest.raises(GatewayError, match="cannot be read"):
        certificate.pem(tmp_path / "none", tmp_path / "own", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRITON_SERVERS", "host:8000"),
        ("TRITON_SERVERS", "host:0:1"),
        ("TRITON_SERVERS", "host name:8000:8001"),
        ("TRITON_SERVERS", "a:1:99999"),
        ("GATEWAY_RATE", "0"),
        ("GATEWAY_CONNECTIONS", "many"),
        ("GATEWAY_PORT", "65536"),
        ("ACCESS_LOG_ADDRESS", "nowhere"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(GatewayError, match=name):
        options.from_environment({name: value})


def of(name: str) -> Contract:
    return Contract(text=f'{{"max":"{name}"}}', bytes=100, json_bytes=1000)


def test_a_former_contract_holds_for_a_while_and_a_retired_model_not_at_all() -> None:
    accepted = Accepted(60)
    old, new = of("old"), of("new")
    assert accepted.update({"m": [old]}, 0) == {"m": [old]}
    assert accepted.update({"m": [new]}, 10) == {"m": [new, old]}
    assert accepted.update({"m": [new]}, 59) == {"m": [new, old]}
    assert accepted.update({"m": [new]}, 71) == {"m": [new]}
    assert accepted.update({"m": [old]}, 80) == {"m": [old, new]}, "and back"
    assert accepted.update({}, 81) == {}
    assert accepted.update({"m": [new]}, 82) == {"m": [new]}


def test_limits_follow_from_the_contracts() -> None:
    small, large = of("a"), Contract(text="", bytes=10_000_000, json_bytes=50_000_000)
    assert contract.grpc_bytes([small, large]) > 30_000_000
    assert contract.buffer_bytes({}, 1 << 20) == 128 << 10
    assert contract.buffer_bytes({"m": [small]}, 1 << 20) == 128 << 10
    assert contract.buffer_bytes({"m": [large]}, 1 << 20) == 1 << 20, "the setting is the most"


def test_a_contract_s_text_is_one_word_of_a_map() -> None:
    text = contract.gate_text([of('x "y"\n\u00e4;\\')])
    assert text.isascii()
    assert not set(text) & set(" \t\n\";\\'")


def test_what_every_refusal_is_in_grpc() -> None:
    folder = Path(configuration.__file__).parent
    text = "".join(file.read_text("utf-8") for file in folder.glob("*.py"))
    used = {int(word) for word in re.findall(r"refuse\(\s*(\d{3})", text)}
    assert used <= set(GRPC_STATUS)
    assert used >= {400, 401, 403, 411, 413, 414, 415, 429, 431, 503}
