"""When the certificate ends that the gateway serves.

Asked of the gateway itself: what it serves is what counts, and its files, with the key among them, are no
business of this program.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from datetime import datetime, timezone
from typing import Optional, Tuple

_TIMEOUT = 2.0  # seconds
_SEQUENCE, _CONTEXT_0, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


class Certificate:
    """The certificate of a TLS server at host:port."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE  # one of our own making is to be read, too

    def not_after(self) -> Optional[float]:
        """When it ends, in seconds since 1970; None while no TLS server answers."""
        try:
            with socket.create_connection(
                self._address, timeout=_TIMEOUT
            ) as plain, self._context.wrap_socket(plain) as tls:
                der = tls.getpeercert(binary_form=True) or b""
                # Bye from both sides: a connection cut off in TLS 1.3 is an error in the gateway's log.
                with contextlib.suppress(OSError):
                    tls.unwrap()
                return not_after(der)
        except (OSError, ValueError):
            return None


def not_after(der: bytes) -> float:
    """The end of an X.509 certificate in seconds since 1970; raises ValueError for what is none.

    The standard library reads it only out of a certificate that it has verified.
    """
    certificate = _value(der, _SEQUENCE)
    fields = _value(certificate, _SEQUENCE)
    if fields[:1] == bytes([_CONTEXT_0]):  # the version, which the first version leaves out
        fields = _after(fields)
    for _ in ("serial number", "signature algorithm", "issuer"):
        fields = _after(fields)
    validity = _after(_value(fields, _SEQUENCE))  # behind notBefore
    tag, text = validity[:1], _element(validity)[0].decode("ascii")
    if tag == bytes([_UTC_TIME]):  # RFC 5280: two digits of the year, from 1950 to 2049
        text = ("19" if text >= "50" else "20") + text
    elif tag != bytes([_GENERALIZED_TIME]):
        raise ValueError("no time where a certificate has its end")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()


def _value(data: bytes, tag: int) -> bytes:
    if data[:1] != bytes([tag]):
        raise ValueError("no certificate")
    return _element(data)[0]


def _after(data: bytes) -> bytes:
    return _element(data)[1]


def _element(data: bytes) -> Tuple[bytes, bytes]:
    """The value of the DER element at the front, and what follows it."""
    if len(data) < 2:
        raise ValueError("a certificate that ends early")
    size, at = data[1], 2
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(data[2:at], "big")
    if len(data) < at + size:
        raise ValueError("a certificate that ends early")
    return data[at : at + size], data[at + size :]
