"""The registry's client against a real registry."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import registry

from cluster.registry.client import MANIFEST, Registry, digest_of
from cluster.registry.errors import RegistryError
from cluster.state.registry import RegistryStore

EMPTY = b"{}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("registry")
    with registry.running(folder) as host:
        yield host, folder


def pushed(client: Registry, repo: str, tag: str, layer: bytes | Path) -> tuple[str, str]:
    """An artifact of one layer: the digests of its manifest and of the layer."""
    blob, size = client.put_blob(repo, layer)
    config, _ = client.put_blob(repo, EMPTY)
    kind = "application/vnd.oci.empty.v1+json"
    data = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": kind, "digest": config, "size": len(EMPTY)},
            "layers": [{"mediaType": "application/octet-stream", "digest": blob, "size": size}],
        }
    ).encode()
    return client.put_manifest(repo, tag, data, MANIFEST), blob


def test_what_is_pushed_is_pulled(place: tuple[str, Path], tmp_path: Path) -> None:
    client, file = Registry(place[0], insecure=True), tmp_path / "layer"
    content = os.urandom(5_000_001)
    file.write_bytes(content)
    digest, blob = pushed(client, "models/pulled", "1", file)
    assert client.head("models/pulled", "1") == digest
    found, data, kind = client.get_manifest("models/pulled", digest)
    assert (found, digest_of(data), kind) == (digest, digest, MANIFEST)
    assert b"".join(client.blob("models/pulled", blob, len(content))) == content


def test_what_is_there_is_not_sent_again(place: tuple[str, Path]) -> None:
    client = Registry(place[0], insecure=True)
    first = pushed(client, "models/again", "1", b"x" * 100_000)
    sent = client.sent
    assert sent == 100_000 + len(EMPTY)
    assert pushed(client, "models/again", "2", b"x" * 100_000) == first
    assert client.sent == sent
    assert sorted(client.tags("models/again")) == ["1", "2"]


def test_a_blob_changed_in_the_registry_s_own_storage_is_corrupt(place: tuple[str, Path]) -> None:
    host, folder = place
    client = Registry(host, insecure=True)
    _, blob = pushed(client, "models/changed", "1", b"y" * 100_000)
    name = blob.partition(":")[2]
    (folder / "blobs/docker/registry/v2/blobs/sha256" / name[:2] / name / "data").write_bytes(b"z" * 100_000)
    with pytest.raises(RegistryError) as e:
        list(client.blob("models/changed", blob, 100_000))
    assert e.value.kind == "corrupt"


def test_a_deleted_release_is_missing(place: tuple[str, Path]) -> None:
    client = Registry(place[0], insecure=True)
    digest, _ = pushed(client, "models/deleted", "1", b"gone")
    assert client.delete("models/deleted", digest)
    assert client.head("models/deleted", "1") is None
    with pytest.raises(RegistryError) as e:
        client.get_manifest("models/deleted", digest)
    assert e.value.kind == "missing"


def test_a_registry_may_forbid_deletion(tmp_path: Path) -> None:
    with registry.running(tmp_path, delete=False) as host:
        client = Registry(host, insecure=True)
        digest, _ = pushed(client, "models/kept", "1", b"kept")
        assert not client.delete("models/kept", digest)
        assert client.head("models/kept", "1") == digest


def test_https_is_not_left_away(place: tuple[str, Path]) -> None:
    with pytest.raises(RegistryError) as e:
        Registry(place[0], insecure=False).head("models/pulled", "1")
    assert e.value.kind == "unreachable"
    assert "REGISTRY_INSECURE" in e.value.remedy


def test_documents_are_tags_of_it(place: tuple[str, Path]) -> None:
    store = RegistryStore(Registry(place[0], insecure=True))
    repo = "models/documents"
    assert store.read(repo, "rollout") is None
    assert store.digest(repo, "rollout") is None
    assert store.tags(repo, "node-") == []
    first = store.write(repo, "rollout", {"state": "running", "names": ["ä", 'a "b"']})
    assert store.read(repo, "rollout") == (first, {"state": "running", "names": ["ä", 'a "b"']})
    assert store.digest(repo, "rollout") == first
    second = store.write(repo, "rollout", {"state": "done"})
    assert second != first
    assert store.read(repo, "rollout") == (second, {"state": "done"})
    for name in ("b", "a"):
        store.write(repo, f"node-{name}", {"node": name})
    assert store.tags(repo, "node-") == ["node-a", "node-b"]
    store.delete(repo, "node-a")
    store.delete(repo, "node-a")
    assert store.tags(repo, "node-") == ["node-b"]
    pushed(Registry(place[0], insecure=True), repo, "1", b"no document")
    with pytest.raises(ValueError, match="no document"):
        store.read(repo, "1")


def test_a_registry_that_has_lost_its_storage_gets_documents_again(tmp_path: Path) -> None:
    with registry.running(tmp_path) as host:
        store = RegistryStore(Registry(host, insecure=True))
        store.write("models/lost", "node-a", {"node": "a", "n": 1})
        shutil.rmtree(tmp_path / "blobs")
        store.write("models/lost", "node-a", {"node": "a", "n": 2})
        assert store.read("models/lost", "node-a") is not None


def test_a_registry_that_keeps_everything_keeps_a_document(tmp_path: Path) -> None:
    with registry.running(tmp_path, delete=False) as host:
        store = RegistryStore(Registry(host, insecure=True))
        store.write("models/kept", "node-a", {"node": "a"})
        store.delete("models/kept", "node-a")
        assert store.tags("models/kept", "node-") == ["node-a"]
