"""The registry's client against a registry that fails."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
import requests
from support.fault_registry import FaultRegistry, after, cut, status

from cluster.registry import transport
from cluster.registry.client import INDEX, Registry, digest_of
from cluster.registry.credentials import Credentials
from cluster.registry.errors import RegistryError

DATA = bytes(range(256)) * 5000
DIGEST = digest_of(DATA)
BLOB = f"/v2/m/blobs/{DIGEST}"
MANIFEST = b'{"schemaVersion": 2}'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_WAIT", 0.01)


@pytest.fixture
def faults() -> Iterator[FaultRegistry]:
    with FaultRegistry().running() as registry:
        yield registry


def client(faults: FaultRegistry, credentials: Credentials | None = None) -> Registry:
    return Registry(faults.host, credentials, insecure=True)


def refused(registry: Registry, size: int | None = len(DATA)) -> RegistryError:
    with pytest.raises(RegistryError) as e:
        for _ in registry.blob("m", DIGEST, size):
            pass
    return e.value


def test_a_blob_comes_as_it_is(faults: FaultRegistry) -> None:
    faults.answers[f"GET {BLOB}"] = status(200, body=DATA)
    registry = client(faults)
    assert b"".join(registry.blob("m", DIGEST, len(DATA))) == DATA
    assert registry.received == len(DATA)


@pytest.mark.parametrize("size", [len(DATA), None])
def test_a_blob_that_was_tampered_with_is_corrupt(faults: FaultRegistry, size: int | None) -> None:
    faults.answers[f"GET {BLOB}"] = status(200, body=DATA[:-1] + b"x")
    assert refused(client(faults), size).kind == "corrupt"


@pytest.mark.parametrize("body", [DATA[:-1], DATA + b"x"], ids=["short", "long"])
def test_a_blob_of_another_size_is_corrupt(faults: FaultRegistry, body: bytes) -> None:
    faults.answers[f"GET {BLOB}"] = status(200, body=body)
    error = refused(client(faults))
    assert error.kind == "corrupt"
    assert str(len(DATA)) in error.expected


def test_a_blob_that_breaks_off_is_taken_up_where_it_broke(faults: FaultRegistry) -> None:
    half = 1_200_000  # more than one piece
    faults.answers[f"GET {BLOB}"] = after(
        cut(200, None, DATA[:half], len(DATA)),
        lambda handler, n: status(206, body=DATA[int((handler.headers["Range"])[6:-1]) :])(handler, n),
    )
    registry = client(faults)
    assert b"".join(registry.blob("m", DIGEST, len(DATA))) == DATA
    assert len(faults.log) == 2
    assert registry.received == len(DATA)


def test_a_blob_that_always_breaks_off_is_unreachable(faults: FaultRegistry) -> None:
    faults.answers[f"GET {BLOB}"] = cut(200, None, DATA[:1000], len(DATA))
    assert refused(client(faults)).kind == "unreachable"
    assert len(faults.log) == 4


@pytest.mark.parametrize(
    ("code", "kind", "requests"),
    [
        (403, "denied", 1),
        (404, "missing", 1),
        (400, "refused", 1),
        (429, "unreachable", 4),
        (503, "unreachable", 4),
    ],
)
def test_what_a_status_means(faults: FaultRegistry, code: int, kind: str, requests: int) -> None:
    words = json.dumps({"errors": [{"code": "X", "message": "in its own words"}]}).encode()
    faults.answers["GET /v2/m/manifests/live"] = status(code, body=words)
    with pytest.raises(RegistryError) as e:
        client(faults).get_manifest("m", "live")
    assert (e.value.kind, len(faults.log)) == (kind, requests)
    assert e.value.details == "X: in its own words"
    assert e.value.facts()["kind"] == kind


def test_an_error_that_passes_is_not_one(faults: FaultRegistry) -> None:
    faults.answers["GET /v2/m/manifests/live"] = after(
        status(503), status(429, {"Retry-After": "0"}), status(200, {"Content-Type": INDEX}, MANIFEST)
    )
    assert client(faults).get_manifest("m", "live") == (digest_of(MANIFEST), MANIFEST, INDEX)


def test_nobody_at_home() -> None:
    with pytest.raises(RegistryError) as e:
        Registry("127.0.0.1:1", None, insecure=True).head("m", "live")
    assert e.value.kind == "unreachable"
    assert "127.0.0.1:1" in e.value.found


def test_a_manifest_is_held_to_its_digest(faults: FaultRegistry) -> None:
    faults.answers[f"GET /v2/m/manifests/{DIGEST}"] = status(200, {"Docker-Content-Digest": DIGEST}, MANIFEST)
    with pytest.raises(RegistryError) as e:
        client(faults).get_manifest("m", DIGEST)
    assert (e.value.kind, e.value.expected) == ("corrupt", DIGEST)


def test_there_is_no_tag(faults: FaultRegistry) -> None:
    assert client(faults).head("m", "live") is None
    assert client(faults).tags("m") == []


def test_tags_come_in_pages(faults: FaultRegistry) -> None:
    def page(handler: object, n: int) -> None:
        more = {"Link": '</v2/m/tags/list?n=1000&last=b>; rel="next"'} if n == 1 else {}
        body = json.dumps({"tags": ["a", "b"] if n == 1 else ["c"]}).encode()
        status(200, more, body)(handler, n)  # type: ignore[arg-type]

    faults.answers["GET /v2/m/tags/list"] = page
    assert client(faults).tags("m") == ["a", "b", "c"]


def test_basic_credentials_are_shown_when_they_are_asked_for(faults: FaultRegistry) -> None:
    asks = status(401, {"WWW-Authenticate": 'Basic realm="r"'})
    faults.answers["HEAD /v2/m/manifests/live"] = after(asks, status(200, {"Docker-Content-Digest": DIGEST}))
    assert client(faults, Credentials("ann", "s:1")).head("m", "live") == DIGEST
    assert [auth for _, _, auth in faults.log] == ["", "Basic " + base64.b64encode(b"ann:s:1").decode()]


def test_wrong_credentials_are_denied_and_not_told(faults: FaultRegistry) -> None:
    faults.answers["GET /v2/m/manifests/live"] = status(401, {"WWW-Authenticate": 'Basic realm="r"'})
    with pytest.raises(RegistryError) as e:
        client(faults, Credentials("ann", "hush")).get_manifest("m", "live")
    assert e.value.kind == "denied"
    assert len(faults.log) == 2
    assert "hush" not in f"{e.value} {e.value.facts()} {Credentials('ann', 'hush')!r}"


def test_a_token_is_fetched_once_a_scope_and_again_when_it_ran_out(faults: FaultRegistry) -> None:
    asks = {
        "WWW-Authenticate": f'Bearer realm="http://{faults.host}/token",service="s",scope="repository:m:pull"'
    }
    good, no = status(200, {"Docker-Content-Digest": DIGEST}), status(401, asks)
    faults.answers["HEAD /v2/m/manifests/live"] = after(no, good, good, no, good)
    tokens = [status(200, body=json.dumps({"token": f"t{n}"}).encode()) for n in (1, 2)]
    faults.answers["GET /token"] = after(*tokens)
    registry = client(faults, Credentials("ann", "hush"))
    assert [registry.head("m", "live") for _ in range(3)] == [DIGEST] * 3
    assert [auth for _, path, auth in faults.log if not path.startswith("/token")] == [
        "", "Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2",
    ]  # fmt: skip
    token = next(entry for entry in faults.log if entry[1].startswith("/token"))
    assert "service=s&scope=repository%3Am%3Apull" in token[1]
    assert token[2].startswith("Basic ")


def test_where_blobs_are_kept_elsewhere_credentials_do_not_go_there(faults: FaultRegistry) -> None:
    with FaultRegistry().running() as storage:
        storage.answers["GET /blob"] = status(200, body=DATA)
        faults.answers[f"GET {BLOB}"] = after(
            status(401, {"WWW-Authenticate": 'Basic realm="r"'}),
            status(307, {"Location": f"http://localhost:{storage.host.split(':')[1]}/blob"}),
        )
        registry = client(faults, Credentials("ann", "hush"))
        assert b"".join(registry.blob("m", DIGEST, len(DATA))) == DATA
    assert [auth for _, _, auth in storage.log] == [""]


def test_a_redirect_without_end_is_refused(faults: FaultRegistry) -> None:
    faults.answers[f"GET {BLOB}"] = status(307, {"Location": BLOB})
    assert refused(client(faults)).kind == "refused"


def test_an_upload_that_breaks_begins_anew(faults: FaultRegistry) -> None:
    faults.answers["POST /v2/m/blobs/uploads/"] = lambda handler, n: status(
        202, {"Location": f"/v2/m/blobs/uploads/{n}?state=x"}
    )(handler, n)
    faults.answers["PUT /v2/m/blobs/uploads/1"] = status(500)
    faults.answers["PUT /v2/m/blobs/uploads/2"] = status(201)
    registry = client(faults)
    assert registry.put_blob("m", DATA) == (DIGEST, len(DATA))
    assert registry.sent == len(DATA)
    assert faults.log[-1][1] == f"/v2/m/blobs/uploads/2?state=x&digest={DIGEST}"


def test_a_blob_that_is_there_is_not_sent(faults: FaultRegistry) -> None:
    faults.answers[f"HEAD {BLOB}"] = status(200)
    registry = client(faults)
    assert registry.put_blob("m", DATA) == (DIGEST, len(DATA))
    assert registry.sent == 0
    assert [method for method, _, _ in faults.log] == ["HEAD"]


def test_a_registry_may_refuse_to_delete(faults: FaultRegistry) -> None:
    faults.answers[f"DELETE /v2/m/manifests/{DIGEST}"] = after(status(405), status(202))
    assert [client(faults).delete("m", DIGEST) for _ in range(2)] == [False, True]


def test_a_token_server_that_is_busy_is_asked_again(faults: FaultRegistry) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{faults.host}/token",service="s"'}
    no, good = status(401, challenge), status(200, body=MANIFEST)
    faults.answers["GET /v2/m/manifests/1"] = after(no, no, good)
    token = status(200, body=json.dumps({"token": "t"}).encode())
    faults.answers["GET /token"] = after(status(503), token)
    assert client(faults).get_manifest("m", "1")[1] == MANIFEST
    assert len([1 for _, path, _ in faults.log if path.startswith("/token")]) == 2


def test_a_token_server_that_knows_nothing_is_no_missing_tag(faults: FaultRegistry) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="http://{faults.host}/token",service="s"'}
    faults.answers["GET /v2/m/manifests/1"] = faults.answers["HEAD /v2/m/manifests/1"] = status(
        401, challenge
    )
    faults.answers["GET /token"] = status(404)
    for ask in (client(faults).get_manifest, client(faults).head):
        with pytest.raises(RegistryError, match="which gives tokens") as told:
            ask("m", "1")
        assert told.value.kind == "refused"


def test_a_certificate_that_nobody_trusts_is_told_as_that(
    faults: FaultRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = client(faults)

    def strange(*_: object, **__: object) -> None:
        raise requests.exceptions.SSLError("certificate verify failed: self-signed certificate")

    monkeypatch.setattr(registry._transport._session, "request", strange)
    with pytest.raises(RegistryError, match="is not trusted here") as caught:
        registry.head("m", "1")
    assert caught.value.kind == "refused"
    assert "REGISTRY_CA" in caught.value.remedy
