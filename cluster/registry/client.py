"""An OCI registry: manifests, blobs and tags. All bytes are checked against their digest."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit

import requests

from cluster.registry.credentials import Credentials
from cluster.registry.errors import RegistryError
from cluster.registry.references import is_digest
from cluster.registry.transport import RETRIES, Body, Transport

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_ACCEPTED = f"{INDEX}, {MANIFEST}"
_CHUNK = 1 << 20
_LARGEST_MANIFEST = 4 << 20  # what registries take at most
_PAGE = 1000


class Registry:
    """One registry; not for several threads.

    Args:
        host: host[:port].
        credentials: None: anonymous.
        insecure: plain HTTP.
        ca: a file of certificates to trust; empty: the system's.

    Attributes:
        sent: bytes of blobs uploaded so far.
        received: bytes of blobs downloaded so far.

    Every method raises RegistryError, with its kind; "unreachable" after 3 retries.
    """

    def __init__(
        self, host: str, credentials: Credentials | None = None, insecure: bool = False, ca: str = ""
    ) -> None:
        self._transport = Transport(host, credentials, insecure=insecure, ca=ca)
        self.host = host
        self.sent = 0
        self.received = 0

    def get_manifest(self, repo: str, ref: str) -> tuple[str, bytes, str]:
        """The manifest of a tag or digest: its digest, its bytes and its media type."""
        answer = self._pull("GET", repo, f"manifests/{ref}", {"Accept": _ACCEPTED}, stream=True)
        data = b"".join(self._pieces(answer, f"{repo}: the manifest {ref}", _LARGEST_MANIFEST))
        digest = digest_of(data)
        wanted = ref if is_digest(ref) else answer.headers.get("Docker-Content-Digest", digest)
        if digest != wanted:
            raise _corrupt(self.host, f"{repo}: the manifest {ref}", wanted, digest)
        return digest, data, answer.headers.get("Content-Type", "").partition(";")[0]

    def head(self, repo: str, ref: str) -> str | None:
        """The digest that a tag names now; None where there is no such tag."""
        answer = self._pull("HEAD", repo, f"manifests/{ref}", {"Accept": _ACCEPTED}, good=(200, 404))
        if answer.status_code == 404:
            return None
        digest = answer.headers.get("Docker-Content-Digest")
        return digest if digest else self.get_manifest(repo, ref)[0]

    def put_manifest(self, repo: str, ref: str, data: bytes, media_type: str) -> str:
        """Write a manifest under a tag or its digest; returns its digest."""
        answer = self._push(
            "PUT", f"/v2/{repo}/manifests/{ref}", repo, (201,), {"Content-Type": media_type}, lambda: data
        )
        digest = digest_of(data)
        stored = answer.headers.get("Docker-Content-Digest", digest)
        if stored != digest:
            raise _corrupt(self.host, f"{repo}: the manifest {ref} as it was stored", digest, stored)
        return digest

    def delete(self, repo: str, digest: str) -> bool:
        """Delete a manifest; False where the registry refuses deletions."""
        good = (200, 202, 404, 405)
        answer = self._transport.request(
            "DELETE", f"/v2/{repo}/manifests/{digest}", scope=f"repository:{repo}:delete,pull", good=good
        )
        return answer.status_code != 405

    def tags(self, repo: str) -> list[str]:
        """All tags, in the registry's order; none where there is no such repository."""
        found: list[str] = []
        path: str | None = f"/v2/{repo}/tags/list?n={_PAGE}"
        seen = set()
        while path and path not in seen:
            seen.add(path)
            answer = self._transport.request("GET", path, scope=f"repository:{repo}:pull", good=(200, 404))
            if answer.status_code == 404:
                return found
            try:
                found += [str(tag) for tag in answer.json()["tags"] or []]
            except (ValueError, KeyError, TypeError) as e:
                raise RegistryError("refused", f"{self.host} answered no list of tags of {repo}") from e
            after = answer.links.get("next", {}).get("url")
            path = urljoin(answer.url, after) if after else None
        return found

    def has_blob(self, repo: str, digest: str) -> bool:
        """Whether a blob is there."""
        return self._pull("HEAD", repo, f"blobs/{digest}", good=(200, 404)).status_code == 200

    def blob(self, repo: str, digest: str, size: int | None = None) -> Iterator[bytes]:
        """A blob's bytes, piece by piece. A connection that breaks is taken up where it broke.

        The error for wrong bytes ("corrupt") comes before the end of the iteration: nothing is right that
        has not been read to its end.
        """
        what, hashed, done, tries = f"{repo}: the blob {digest}", hashlib.sha256(), 0, 0
        while True:
            headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
            answer = self._pull("GET", repo, f"blobs/{digest}", headers, good=(200, 206), stream=True)
            skip = done if answer.status_code == 200 else 0
            try:
                for whole in self._pieces(answer, what, None if size is None else size - done + skip):
                    piece, skip = whole[skip:], max(0, skip - len(whole))
                    hashed.update(piece)
                    done += len(piece)
                    self.received += len(piece)
                    if piece:
                        yield piece
                break
            except requests.RequestException as e:
                tries += 1
                if tries > RETRIES:
                    raise RegistryError("unreachable", f"{what} breaks off after {done} bytes") from e
                time.sleep(0.2 * tries)
        if size is not None and done != size:
            raise RegistryError("corrupt", f"{what} has {done} bytes", expected=f"{size} bytes")
        if f"sha256:{hashed.hexdigest()}" != digest:
            raise _corrupt(self.host, what, digest, f"sha256:{hashed.hexdigest()}")

    def put_blob(self, repo: str, data: Path | bytes) -> tuple[str, int]:
        """Upload a blob unless it is there already; returns its digest and its size in bytes."""
        digest, size = (digest_of(data), len(data)) if isinstance(data, bytes) else _of_file(data)
        if not self.has_blob(repo, digest):
            self._upload(repo, digest, size, data)
            self.sent += size
        return digest, size

    def _upload(self, repo: str, digest: str, size: int, data: Path | bytes) -> None:
        def body() -> bytes | IO[bytes]:
            return data if isinstance(data, bytes) else data.open("rb")

        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        for attempt in range(RETRIES + 1):
            begun = self._push("POST", f"/v2/{repo}/blobs/uploads/", repo, (202,), {"Content-Length": "0"})
            place = urljoin(begun.url, begun.headers.get("Location", ""))
            if urlsplit(place).netloc == urlsplit(begun.url).netloc:  # behind a proxy some say http
                place = urlsplit(place)._replace(scheme=urlsplit(begun.url).scheme).geturl()
            place += f"{'&' if urlsplit(place).query else '?'}digest={digest}"
            try:
                self._push("PUT", place, repo, (201,), headers, body, tries=1)
            except RegistryError as e:
                # What is left of a broken upload is of no use: each try is a new one.
                if e.kind != "unreachable" or attempt == RETRIES:
                    raise
                time.sleep(0.2 * (attempt + 1))
            else:
                return

    def _pull(
        self,
        method: str,
        repo: str,
        path: str,
        headers: dict[str, str] | None = None,
        *,
        good: tuple[int, ...] = (200,),
        stream: bool = False,
    ) -> requests.Response:
        return self._transport.request(
            method, f"/v2/{repo}/{path}", scope=f"repository:{repo}:pull", good=good, headers=headers,
            stream=stream,
        )  # fmt: skip

    def _push(
        self,
        method: str,
        url: str,
        repo: str,
        good: tuple[int, ...],
        headers: dict[str, str],
        body: Body | None = None,
        tries: int = RETRIES + 1,
    ) -> requests.Response:
        return self._transport.request(
            method, url, scope=f"repository:{repo}:pull,push", good=good, headers=headers, body=body,
            tries=tries,
        )  # fmt: skip

    def _pieces(self, answer: requests.Response, what: str, most: int | None) -> Iterator[bytes]:
        """The answer's body; more than ``most`` bytes are refused before they are taken."""
        done = 0
        with answer:
            for piece in answer.iter_content(_CHUNK):
                done += len(piece)
                if most is not None and done > most:
                    raise RegistryError("corrupt", f"{what} is too large", expected=f"{most} bytes")
                yield piece


def digest_of(data: bytes) -> str:
    """Sha256 as OCI writes it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _of_file(path: Path) -> tuple[str, int]:
    hashed, size = hashlib.sha256(), 0
    with path.open("rb") as f:
        while piece := f.read(_CHUNK):
            hashed.update(piece)
            size += len(piece)
    return f"sha256:{hashed.hexdigest()}", size


def _corrupt(host: str, what: str, wanted: str, found: str) -> RegistryError:
    return RegistryError(
        "corrupt", f"{what} has the digest {found}", expected=wanted,
        remedy=f"nothing of it was used; push it again, or look after the storage of {host}",
    )  # fmt: skip
