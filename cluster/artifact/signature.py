"""Signatures as cosign keeps them: beside a digest, under the tag ``sha256-<hex>.sig``.

What is signed is the digest of a release's index, which names every other digest: so one signature holds for
all of its files. A key is an EC key in PEM, as openssl makes it. ``cosign verify --insecure-ignore-tlog``
takes what is signed here, and what ``cosign sign --key`` has signed is taken here. There is no certificate
authority and no transparency log: whoever holds the key is trusted.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.artifact.errors import ArtifactError
from cluster.artifact.place import Place
from cluster.registry.client import MANIFEST
from cluster.registry.errors import RegistryError

SIGNING_KEY, PUBLIC_KEY = "RELEASE_SIGNING_KEY", "RELEASE_PUBLIC_KEY"
_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_NOTE = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"
_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)
_LARGEST = 64 << 10  # bytes of what is signed
_MAKE = "openssl ecparam -genkey -name prime256v1 -noout -out key.pem"


def signing_key(environ: Mapping[str, str] = os.environ) -> ec.EllipticCurvePrivateKey | None:
    """The key of RELEASE_SIGNING_KEY, with the password COSIGN_PASSWORD if it has one; None where none is
    set. Raises ArtifactError for a file that is no such key."""
    file = environ.get(SIGNING_KEY, "")
    if not file:
        return None
    text = _read(SIGNING_KEY, file)
    if b"SIGSTORE" in text or b"COSIGN" in text:
        raise ArtifactError(
            "key",
            f"{SIGNING_KEY}: {file} is encrypted in cosign's own way",
            expected="a PEM file of openssl",
            remedy=f"make one: {_MAKE}; or let cosign sign: cosign sign --key {file} HOST/REPOSITORY@DIGEST",
        )
    password = environ.get("COSIGN_PASSWORD", "").encode() or None
    try:
        key = serialization.load_pem_private_key(text, password)
    except (ValueError, TypeError) as e:
        raise ArtifactError(
            "key", f"{SIGNING_KEY}: {file} cannot be read: {e}", remedy="its password goes in COSIGN_PASSWORD"
        ) from e
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ArtifactError("key", f"{SIGNING_KEY}: {file} is no EC key", remedy=f"make one: {_MAKE}")
    return key


def public_keys(environ: Mapping[str, str] = os.environ) -> list[ec.EllipticCurvePublicKey]:
    """The keys in the file of RELEASE_PUBLIC_KEY, any of which is trusted; none where it is not set.

    Raises:
        ArtifactError: the file cannot be read, or holds no key.
    """
    file = environ.get(PUBLIC_KEY, "")
    if not file:
        return []
    found = []
    for pem in _PEM.findall(_read(PUBLIC_KEY, file).decode("utf-8", "replace")):
        try:
            key = serialization.load_pem_public_key(pem.encode())
        except ValueError as e:
            raise ArtifactError("key", f"{PUBLIC_KEY}: {file} cannot be read: {e}") from e
        if isinstance(key, ec.EllipticCurvePublicKey):
            found.append(key)
    if not found:
        raise ArtifactError(
            "key", f"{PUBLIC_KEY}: {file} holds no public EC key", remedy="openssl ec -in key.pem -pubout"
        )
    return found


def sign(place: Place, repository: str, digest: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Put a signature of ``digest`` beside it, and leave those that are there; raises RegistryError."""
    public, layers = key.public_key(), _layers(place, repository, digest)
    if any(_good(place, repository, layer, digest, [public]) for layer in layers):
        return
    payload = _payload(f"{place.settings.host}/{repository}", digest)
    signed = base64.b64encode(key.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
    blob, size = place.registry.put_blob(repository, payload)
    layers.append({"mediaType": _PAYLOAD, "digest": blob, "size": size, "annotations": {_NOTE: signed}})
    config = json.dumps(
        {
            "architecture": "",
            "config": {},
            "created": "0001-01-01T00:00:00Z",
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
    ).encode()
    config_digest, config_size = place.registry.put_blob(repository, config)
    data = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": config_digest, "size": config_size},
        "layers": layers,
    }
    place.registry.put_manifest(repository, tag(digest), json.dumps(data).encode(), MANIFEST)


def verify(place: Place, repository: str, digest: str, keys: list[ec.EllipticCurvePublicKey]) -> None:
    """Raise ArtifactError unless one of ``keys`` has signed ``digest``; without keys nothing is asked."""
    if not keys:
        return
    layers = _layers(place, repository, digest)
    if any(_good(place, repository, layer, digest, keys) for layer in layers):
        return
    found = "has no signature" if not layers else "is not signed by a key that is trusted here"
    raise ArtifactError(
        "unsigned",
        f"{repository}@{digest} {found}; nothing of it was unpacked",
        expected=f"a signature by a key in {PUBLIC_KEY}",
        remedy=f"./scripts/push with {SIGNING_KEY} set signs it; or cosign sign --key",
    )


def tag(digest: str) -> str:
    """Where cosign keeps the signatures of a digest."""
    return digest.replace(":", "-") + ".sig"


def _layers(place: Place, repository: str, digest: str) -> list[dict[str, Any]]:
    """The signatures that are there, as the registry has them."""
    try:
        _, data, _ = place.registry.get_manifest(repository, tag(digest))
        return [dict(layer) for layer in json.loads(data)["layers"]]
    except RegistryError as e:
        if e.kind == "missing":
            return []
        raise
    except (ValueError, KeyError, TypeError):
        return []  # whatever it is, it is no signature


def _good(
    place: Place,
    repository: str,
    layer: Mapping[str, Any],
    digest: str,
    keys: list[ec.EllipticCurvePublicKey],
) -> bool:
    """Whether a layer holds a signature of ``digest`` by one of ``keys``."""
    try:
        blob, size = str(layer["digest"]), int(layer["size"])
        signature = base64.b64decode(layer["annotations"][_NOTE], validate=True)
        if size > _LARGEST:
            return False
        payload = b"".join(place.registry.blob(repository, blob, size))
        said = json.loads(payload)["critical"]
        right = said["image"]["docker-manifest-digest"] == digest and said["type"] == _TYPE
    except (KeyError, TypeError, ValueError, binascii.Error):
        return False
    except RegistryError as e:
        if e.kind in ("missing", "corrupt"):
            return False
        raise
    return bool(right) and any(_by(keys, payload, signature))


def _by(keys: list[ec.EllipticCurvePublicKey], payload: bytes, signature: bytes) -> Iterator[bool]:
    for key in keys:
        try:
            key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        yield True


def _payload(repository: str, digest: str) -> bytes:
    return json.dumps(
        {
            "critical": {
                "identity": {"docker-reference": repository},
                "image": {"docker-manifest-digest": digest},
                "type": _TYPE,
            },
            "optional": None,
        },
        separators=(",", ":"),
    ).encode()


def _read(setting: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as e:
        raise ArtifactError("key", f"{setting}: {file} cannot be read: {e.strerror}") from e
