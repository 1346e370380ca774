"""Releases pushed to a real registry, signed, promoted and pulled onto other models volumes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support import registry
from support.models import write_scale
from support.stack import PACKAGES, ROOT

from builder import hashing
from builder.release import build as pipeline
from builder.release.store import Store
from cluster.artifact import signature
from cluster.artifact.errors import ArtifactError, BuildError
from cluster.artifact.format import FILE, RELEASE, TITLE, index_of, layers_of
from cluster.artifact.place import Place
from cluster.artifact.promote import promote
from cluster.artifact.pull import pull
from cluster.artifact.push import push
from cluster.errors import ClusterError
from cluster.registry.errors import RegistryError

NOBODY: dict[str, str] = {}  # an environment without keys


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("registry")
    with registry.running(folder) as host:
        yield host, folder


class Site:
    """A models volume, and a path of its own in the registry where a test wants one."""

    def __init__(self, folder: Path, host: str, path: str) -> None:
        self.folder = folder
        self.environ = {"REGISTRY": f"{host}/{path}", "DOCKER_CONFIG": str(folder / "no-docker")}
        self.store = Store(folder / "models")

    @property
    def place(self) -> Place:
        return Place.of(self.environ)

    def build(self, spec: Path) -> dict[str, Any]:
        return pipeline.build(spec, self.store, "onnxruntime", allow_untrained=False, force=False)

    def push(self, version: int = 1, number: str = "", environ: dict[str, str] = NOBODY) -> dict[str, Any]:
        return push(self.place, self.store, "scale", version, number, environ)

    def pull(self, ref: str = "1", environ: dict[str, str] = NOBODY) -> dict[str, Any]:
        return pull(self.place, self.store, "scale", ref, "onnxruntime", environ)


@pytest.fixture
def sites(server: tuple[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> list[Site]:
    path = "".join(c for c in request.node.name.lower() if c.isalnum())[:60]
    return [Site(tmp_path / name, server[0], path) for name in ("a", "b", "c")]


def blob_file(server: tuple[str, Path], digest: str) -> Path:
    value = digest.removeprefix("sha256:")
    return server[1] / "blobs/docker/registry/v2/blobs/sha256" / value[:2] / value / "data"


def keys(folder: Path, name: str) -> tuple[str, str]:
    """The files of a new key: its private and its public part."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return str(private), str(public)


def pretend_gpu(site: Site, version: int = 1) -> None:
    """Let a release be one whose engine was built on an H100."""
    folder = site.store.folder("scale", version)
    data = json.loads((folder / "manifest.json").read_text())
    (folder / f"model/{version}/model.onnx").rename(folder / f"model/{version}/model.plan")
    (folder / f"model/{version}/model.plan").write_bytes(b"a plan for another GPU")
    plan = hashing.of_path(folder / f"model/{version}/model.plan")
    del data["files"][f"model/{version}/model.onnx"]
    data["files"][f"model/{version}/model.plan"] = plan
    card = {"name": "NVIDIA H100", "compute_capability": "9.0"}
    data["engine"] |= {
        "name": "tensorrt",
        "version": "8.5.1",
        "gpu": card,
        "file": "model.plan",
        "sha256": plan,
    }
    (folder / "manifest.json").write_text(json.dumps(data))


def test_a_release_goes_through_the_registry_and_comes_once(sites: list[Site], tmp_path: Path) -> None:
    a, b, _ = sites
    made = a.build(write_scale(tmp_path))["manifest"]
    pushed = a.push()
    assert (pushed["action"], pushed["tag"], pushed["signed"]) == ("pushed", "1", False)
    assert pushed["sent"] > 0
    pulled = b.pull()
    assert (pulled["action"], pulled["version"], pulled["digest"]) == ("pulled", 1, pushed["digest"])
    mine = b.store.manifest("scale", 1)
    assert mine["engine"]["sha256"] == made["engine"]["sha256"]
    assert mine["origin"] == {
        "repository": a.place.reference("scale").repository, "tag": "1", "digest": pushed["digest"],
    }  # fmt: skip
    assert b.store.live("scale") is None
    assert not (b.store.cache / "pull.scale").exists()
    for site, ref in ((b, "1"), (b, pushed["digest"]), (a, "1")):
        again = site.pull(ref)
        assert (again["action"], again["version"]) == ("unchanged", 1)
    assert b.pull()["received"] == 0, "an unchanged release moves no bytes"
    again = a.push()
    assert (again["action"], again["sent"], again["digest"]) == ("unchanged", 0, pushed["digest"])


def test_the_artifact_is_one_index_with_a_layer_a_file_of_the_manifests_sha256(
    sites: list[Site], tmp_path: Path
) -> None:
    a = sites[0]
    made = a.build(write_scale(tmp_path))["manifest"]
    pushed = a.push()
    place, repo = a.place, a.place.reference("scale").repository
    _, data, _ = place.registry.get_manifest(repo, "1")
    assert json.loads(data)["artifactType"] == RELEASE
    index = index_of(data, "here")
    assert [e.engine["name"] for e in index.entries] == ["onnxruntime"]
    _, text, _ = place.registry.get_manifest(repo, index.entries[0].digest)
    layers = layers_of(text, "here")
    assert {name: layer.digest for name, layer in layers.items() if name != "manifest.json"} == {
        name: f"sha256:{value}"
        for name, value in made["files"].items()
        if name not in ("verified.npz", "model/config.pbtxt")
    }
    assert all(set(one["annotations"]) == {TITLE} for one in json.loads(text)["layers"])
    assert {one["mediaType"] for one in json.loads(text)["layers"]} == {FILE}
    assert pushed["engines"].startswith("onnxruntime ")


def test_an_engine_for_another_gpu_is_built_from_the_shared_files_and_joins_them(
    sites: list[Site], tmp_path: Path
) -> None:
    a, b, c = sites
    a.build(write_scale(tmp_path))
    pretend_gpu(a)
    first = a.push()
    pulled = b.pull()
    assert pulled["action"] == "built"
    assert b.store.manifest("scale", 1)["engine"]["name"] == "onnxruntime"
    joined = b.push()
    assert (joined["tag"], joined["action"]) == ("1", "pushed")
    assert joined["digest"] != first["digest"]
    engine = b.store.folder("scale", 1) / "model.onnx"
    assert joined["sent"] < 20_000 + engine.stat().st_size, "the shared files were there"
    assert "tensorrt 8.5.1, NVIDIA H100" in joined["engines"]
    assert "onnxruntime" in joined["engines"]
    assert c.pull()["action"] == "pulled", "the next machine of this kind takes the engine"
    after = b.pull(joined["digest"])
    assert (after["action"], after["version"]) == ("unchanged", 1)
    assert a.push()["digest"] == joined["digest"], "each keeps the other's"


def test_a_number_that_is_another_release_is_not_overwritten(sites: list[Site], tmp_path: Path) -> None:
    a, b, _ = sites
    a.build(write_scale(tmp_path / "a"))
    b.build(write_scale(tmp_path / "b", factor=5.0))
    first = a.push()
    with pytest.raises(ArtifactError, match="is another release") as caught:
        b.push()
    assert "--as 2" in caught.value.remedy
    assert b.push(number="2")["tag"] == "2"
    assert a.push()["digest"] == first["digest"]


def test_promote_moves_the_tag_live(sites: list[Site], tmp_path: Path) -> None:
    a, b, _ = sites
    a.build(write_scale(tmp_path / "a"))
    a.build(write_scale(tmp_path / "b", factor=5.0))
    one, two = a.push(1), a.push(2)
    with pytest.raises(ArtifactError, match="is not there"):
        b.pull("live")
    row = promote(a.place, "scale", "1", NOBODY)
    assert (row["action"], row["previous"], row["digest"]) == ("promoted", None, one["digest"])
    assert b.pull("live")["digest"] == one["digest"]
    row = promote(a.place, "scale", two["digest"], NOBODY)
    assert (row["previous"], row["tag"]) == (one["digest"], "2")
    assert promote(a.place, "scale", "2", NOBODY)["action"] == "unchanged"
    assert b.pull("live")["version"] == 2
    with pytest.raises(RegistryError) as caught:
        promote(a.place, "scale", "7", NOBODY)
    assert caught.value.kind == "missing"


def test_what_nobody_trusted_has_signed_is_not_unpacked(
    sites: list[Site], tmp_path: Path, server: tuple[str, Path]
) -> None:
    a, b, c = sites
    a.build(write_scale(tmp_path / "spec"))
    private, public = keys(tmp_path, "ours")
    other, others_public = keys(tmp_path, "theirs")
    trusting = {"RELEASE_PUBLIC_KEY": public}
    digest = a.push()["digest"]
    for act in (lambda: b.pull("1", trusting), lambda: promote(a.place, "scale", "1", trusting)):
        with pytest.raises(ArtifactError, match="has no signature") as caught:
            act()
        assert caught.value.kind == "unsigned"
    a.push(environ={"RELEASE_SIGNING_KEY": other})
    with pytest.raises(ArtifactError, match="not signed by a key that is trusted"):
        b.pull("1", trusting)
    assert b.store.versions("scale") == []
    assert not (b.store.cache / "pull.scale").exists()
    signed = a.push(environ={"RELEASE_SIGNING_KEY": private})
    assert (signed["digest"], signed["signed"]) == (digest, True)
    assert b.pull("1", trusting)["action"] == "pulled"
    both = tmp_path / "both.pub"
    both.write_text(Path(others_public).read_text() + Path(public).read_text())
    assert c.pull(digest, {"RELEASE_PUBLIC_KEY": str(both)})["action"] == "pulled"
    assert a.push(environ={"RELEASE_SIGNING_KEY": private})["sent"] == 0, "signed once"


def test_a_signature_is_as_cosign_writes_it(sites: list[Site], tmp_path: Path) -> None:
    a = sites[0]
    a.build(write_scale(tmp_path / "spec"))
    private, public = keys(tmp_path, "ours")
    digest = a.push(environ={"RELEASE_SIGNING_KEY": private})["digest"]
    repo = a.place.reference("scale").repository
    assert signature.tag(digest) == f"sha256-{digest[7:]}.sig"
    _, data, _ = a.place.registry.get_manifest(repo, signature.tag(digest))
    [layer] = json.loads(data)["layers"]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    payload = b"".join(a.place.registry.blob(repo, layer["digest"]))
    critical = json.loads(payload)["critical"]
    assert critical == {
        "identity": {"docker-reference": f"{a.place.settings.host}/{repo}"},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    key = serialization.load_pem_public_key(Path(public).read_bytes())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    signed = base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"])
    key.verify(signed, payload, ec.ECDSA(hashes.SHA256()))


def test_a_signature_of_another_release_does_not_count(sites: list[Site], tmp_path: Path) -> None:
    a, b, _ = sites
    a.build(write_scale(tmp_path / "a"))
    a.build(write_scale(tmp_path / "b", factor=5.0))
    private, public = keys(tmp_path, "ours")
    good, bad = a.push(1, environ={"RELEASE_SIGNING_KEY": private})["digest"], a.push(2)["digest"]
    repo, client = a.place.reference("scale").repository, a.place.registry
    _, data, kind = client.get_manifest(repo, signature.tag(good))
    client.put_manifest(repo, signature.tag(bad), data, kind)
    with pytest.raises(ArtifactError, match="not signed by a key"):
        b.pull("2", {"RELEASE_PUBLIC_KEY": public})


@pytest.mark.parametrize(
    ("setting", "text", "words"),
    [
        ("RELEASE_SIGNING_KEY", None, "cannot be read"),
        ("RELEASE_SIGNING_KEY", "no key", "cannot be read"),
        ("RELEASE_SIGNING_KEY", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----", "cosign's own way"),
        ("RELEASE_PUBLIC_KEY", None, "cannot be read"),
        ("RELEASE_PUBLIC_KEY", "no key", "holds no public EC key"),
    ],
)
def test_a_file_that_is_no_key_is_named(
    sites: list[Site], tmp_path: Path, setting: str, text: str | None, words: str
) -> None:
    file = tmp_path / "key"
    if text is not None:
        file.write_text(text)
    act = sites[0].push if "SIGNING" in setting else sites[0].pull
    with pytest.raises(ArtifactError, match=words) as caught:
        act(environ={setting: str(file)})
    assert setting in caught.value.found


def test_a_blob_that_was_tampered_with_is_refused_and_the_next_pull_is_whole(
    sites: list[Site], tmp_path: Path, server: tuple[str, Path]
) -> None:
    a, b, c = sites
    made = a.build(write_scale(tmp_path, factor=1.25))["manifest"]
    a.push()
    victim = blob_file(server, f"sha256:{made['files']['golden.npz']}")
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-10] + b"0123456789")
    with pytest.raises(RegistryError) as caught:
        b.pull()
    assert caught.value.kind == "corrupt"
    assert b.store.versions("scale") == []
    victim.write_bytes(whole)
    row = b.pull()
    assert row["action"] == "pulled"
    onnx_bytes = (b.store.folder("scale", 1) / "model.onnx").stat().st_size
    assert row["received"] == c.pull()["received"] - onnx_bytes, "what had come whole was kept"
    assert b.store.damage("scale", 1) == ""


def test_what_is_no_release_is_refused(sites: list[Site], tmp_path: Path) -> None:
    a, b, _ = sites
    repo, client = a.place.reference("scale").repository, a.place.registry
    config, size = client.put_blob(repo, b"{}")
    kind = "application/vnd.oci.image.manifest.v1+json"
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": size}
    image = {"schemaVersion": 2, "mediaType": kind, "config": empty, "layers": [empty]}
    client.put_manifest(repo, "1", json.dumps(image).encode(), kind)
    with pytest.raises(ArtifactError, match="is no release"):
        b.pull()
    a.build(write_scale(tmp_path))
    with pytest.raises(ArtifactError, match="is no release"):
        a.push()


def test_a_full_disk_is_told_before_anything_is_moved(
    sites: list[Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = sites
    a.build(write_scale(tmp_path))
    a.push()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 1 << 20))  # type: ignore[attr-defined]
    with pytest.raises(ArtifactError, match="MiB are free") as caught:
        b.pull()
    assert caught.value.kind == "space"
    assert b.store.versions("scale") == []


def test_what_does_not_pass_a_gate_here_is_the_builders_error(sites: list[Site], tmp_path: Path) -> None:
    a, b, _ = sites
    a.build(write_scale(tmp_path))
    a.push()
    with b.store.lock("a build"), pytest.raises(BuildError) as caught:
        b.pull()
    assert caught.value.facts()["kind"] == "LockedError"


def test_a_pull_of_50_mb_costs_little_more_than_a_local_publish(sites: list[Site], tmp_path: Path) -> None:
    a, b, c = sites
    spec = write_scale(tmp_path / "spec")
    file = next(iter(spec.parent.glob("*.onnx")))
    model = onnx.load(str(file))
    ballast = np.random.default_rng(0).standard_normal(12_500_000).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(ballast, "ballast"))
    onnx.save(model, str(file))
    spec.write_text("\n".join(line for line in spec.read_text().splitlines() if "sha256" not in line))
    a.build(spec)
    a.push()
    began = time.monotonic()
    c.build(spec)
    publish = time.monotonic() - began
    began = time.monotonic()
    row = b.pull()
    took = time.monotonic() - began
    assert row["received"] > 50_000_000
    assert took <= publish + 2, f"{took:.1f} s against {publish:.1f} s"


def test_the_commands_say_what_they_did_and_fail_in_words(sites: list[Site], tmp_path: Path) -> None:
    a, b, _ = sites
    a.build(write_scale(tmp_path))

    def cluster(site: Site, *args: str) -> tuple[int, dict[str, Any]]:
        env = {**os.environ, **site.environ, "PYTHONPATH": PACKAGES, "MODELS_DIR": str(site.store.root)}
        argv = [sys.executable, "-m", "cluster", *args, "--json"]
        done = subprocess.run(
            argv, cwd=ROOT, env={**env, "ENGINE": "onnxruntime"}, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    code, row = cluster(a, "push", "scale", "1")
    assert (code, row["action"]) == (0, "pushed")
    assert cluster(a, "promote", "scale", "1")[1]["tag"] == "1"
    code, row = cluster(b, "pull", "scale")
    assert (code, row["version"]) == (0, 1)
    for args, kind in (
        (("pull", "scale", "9"), "foreign"),
        (("promote", "scale", "9"), "missing"),
        (("push", "scale", "9"), "BuilderError"),
        (("push", "absent"), "BuilderError"),
        (("push", "scale"), "BuilderError"),
    ):
        code, row = cluster(a, *args)
        assert (code, row["error"]["kind"]) == (1, kind), row
    a.environ["REGISTRY"] = "127.0.0.1:1/x"
    code, row = cluster(a, "pull", "scale")
    assert (code, row["error"]["kind"]) == (1, "unreachable")
    a.environ["REGISTRY"] = ""
    assert cluster(a, "pull", "scale")[1]["error"]["found"] == "no registry is set"


def test_place_names_what_is_wrong(sites: list[Site]) -> None:
    with pytest.raises(ClusterError, match="names no release"):
        sites[0].place.reference("scale", "a b")
