"""The certificate of the TLS port: the user's, or one of our own, which `openssl` makes.

OpenSSL's program is on every machine that has CA certificates from its distribution, and in Docker's Python
images; Python's standard library cannot sign. A certificate of our own is renewed a month before its end.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import List, Optional

from gateway.errors import GatewayError

_DAYS, _RENEW_DAYS = 397, 30
# How the two files are called by those who make them: certbot, Kubernetes and cert-manager.
_PAIRS = (("fullchain.pem", "privkey.pem"), ("tls.crt", "tls.key"), ("cert.pem", "key.pem"))


def pem(given: Optional[Path], own: Path, address: str) -> bytes:
    """Chain and private key in one file's text; raises GatewayError.

    Args:
        given: the user's: a PEM file that holds both, or a folder with both. None or an empty file: our own.
        own: where ours is kept.
        address: what the gateway listens on, for the names in our own.
    """
    # Compose always mounts something: /dev/null where the user names nothing.
    if given is not None and not given.is_char_device():
        return _users(given)
    if not _lasts(own):
        _make(own, address)
    return own.read_bytes()


def _users(given: Path) -> bytes:
    try:
        if not given.is_dir():
            text = given.read_bytes()
        else:
            pairs = [
                (given / a, given / b) for a, b in _PAIRS if (given / a).is_file() and (given / b).is_file()
            ]
            if not pairs:
                names = ", ".join(" and ".join(pair) for pair in _PAIRS)
                raise GatewayError(f"GATEWAY_CERT: {given} holds none of: {names}")
            text = b"\n".join(path.read_bytes() for path in pairs[0])
    except OSError as e:
        raise GatewayError(
            f"GATEWAY_CERT: {given} cannot be read: {e.strerror}",
            remedy="name a PEM file with the chain and the private key, or a folder that holds both",
        ) from e
    if b"BEGIN CERTIFICATE" not in text or b"PRIVATE KEY-----" not in text:
        raise GatewayError(f"GATEWAY_CERT: {given} must hold a certificate and its private key, in PEM")
    return text


def _lasts(own: Path) -> bool:
    """Whether our certificate is there, and for more than a month."""
    if not own.is_file():
        return False
    argv = ["x509", "-in", str(own), "-noout", "-checkend", str(_RENEW_DAYS * 86400)]
    return _openssl(argv).returncode == 0


def _make(own: Path, address: str) -> None:
    fresh = own.with_suffix(".new")
    fresh.touch(mode=0o600)
    done = _openssl(
        [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch",
            "-keyout", str(fresh), "-out", str(own.with_suffix(".crt")), "-days", str(_DAYS),
            "-subj", "/CN=tensorflow-triton gateway",
            "-addext", f"subjectAltName={','.join(_names(address))}",
        ]
    )  # fmt: skip
    if done.returncode:
        raise GatewayError(
            "openssl made no certificate: " + done.stderr.decode("utf-8", "replace").strip()[-300:],
            remedy="set GATEWAY_CERT to a certificate of your own",
        )
    with fresh.open("ab") as file:
        file.write(own.with_suffix(".crt").read_bytes())
    fresh.replace(own)


def _names(address: str) -> List[str]:
    names = ["DNS:localhost", f"DNS:{socket.gethostname()[:63]}", "DNS:gateway", "IP:127.0.0.1", "IP:::1"]
    if address not in ("0.0.0.0", "127.0.0.1", "::1", "[::]", "::"):  # noqa: S104  (compared, not bound)
        names.append(f"IP:{address}" if address.replace(".", "").isdigit() else f"DNS:{address}")
    return names


def _openssl(argv: List[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["openssl", *argv], capture_output=True, check=False, timeout=60)
    except FileNotFoundError as e:
        raise GatewayError(
            "openssl is not on PATH, and there is no certificate",
            remedy="install openssl, or set GATEWAY_CERT to a certificate of your own",
        ) from e
