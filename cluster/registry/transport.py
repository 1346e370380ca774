"""Requests to one registry: authentication, retries, timeouts, and what is said when it fails."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import requests

from cluster.registry.credentials import Credentials
from cluster.registry.errors import RegistryError
from cluster.registry.references import local

TIMEOUT = (5.0, 30.0)  # seconds to connect, and between two pieces of an answer
RETRIES = 3
_WAIT = 0.5  # seconds before the first retry, doubled at each
_LONGEST = 20.0  # of Retry-After
_LARGEST = 1 << 20  # bytes of an answer that is only read for its words
_LOST = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)

Body = Callable[[], "bytes | IO[bytes]"]


@dataclass(frozen=True)
class _Request:
    """What each try sends; ``body`` is called for each."""

    method: str
    address: str
    scope: str
    headers: dict[str, str]
    body: Body | None
    stream: bool


class _Session(requests.Session):
    """Follows no redirect from HTTPS to plain HTTP."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target: str | None = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https":
            after = urljoin(resp.url, target)
            if urlsplit(after).scheme != "https":
                raise RegistryError(
                    "refused",
                    f"{urlsplit(resp.url).netloc} redirects from https to {after.partition('?')[0]}",
                    remedy="see the registry's own configuration of its storage and its public address",
                )
        return target


class Transport:
    """Requests to ``host``.

    Args:
        host: host[:port].
        credentials: None: anonymous.
        insecure: plain HTTP.
        ca: a file of certificates to trust; empty: the system's.
    """

    def __init__(self, host: str, credentials: Credentials | None, *, insecure: bool, ca: str = "") -> None:
        self.host = host
        self.base = f"{'http' if insecure else 'https'}://{host}"
        self._credentials = credentials
        self._session = _Session()
        self._session.max_redirects = 5
        if ca:
            self._session.verify = ca
        if local(host):
            self._session.trust_env = False  # no proxy reaches this machine's own loopback
        self._basic = False  # what the registry asks for, once it has asked
        self._tokens: dict[str, str] = {}  # by scope

    def request(
        self,
        method: str,
        url: str,
        *,
        scope: str,
        good: tuple[int, ...],
        headers: dict[str, str] | None = None,
        body: Body | None = None,
        stream: bool = False,
        tries: int = RETRIES + 1,
    ) -> requests.Response:
        """Send a request, with credentials where the registry asks for them.

        Args:
            url: a path, or an address as the registry has named it.
            scope: what a token has to allow, ``repository:NAME:pull,push``.
            good: the status codes that are returned and not raised.
            body: called for each try.

        Raises:
            RegistryError: another status, or no answer after all tries.
        """
        request = _Request(method, urljoin(self.base, url), scope, headers or {}, body, stream)
        for attempt in range(1, tries + 1):
            try:
                answer = self._authorized(request)
            except _LOST as e:
                if isinstance(e, requests.exceptions.SSLError) and "certificate" in str(e).lower():
                    raise self._untrusted(e) from e
                if attempt == tries:
                    raise self._unreachable(e) from e
                time.sleep(_pause(attempt))
                continue
            except requests.RequestException as e:
                raise RegistryError("refused", f"{self.host}: {type(e).__name__}: {e}") from e
            if answer.status_code in good:
                return answer
            if not _passing(answer.status_code) or attempt == tries:
                raise self._error(method, answer)
            wait = _pause(attempt, answer.headers.get("Retry-After"))
            answer.close()
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _authorized(self, request: _Request) -> requests.Response:
        answer = self._send(request)
        if answer.status_code == 401 and self._ours(request.address):
            challenge = answer.headers.get("WWW-Authenticate", "")
            self._tokens.pop(request.scope, None)  # it may have run out
            if self._answer(challenge, request.scope):
                answer.close()
                answer = self._send(request)
        return answer

    def _send(self, request: _Request) -> requests.Response:
        data = request.body() if request.body else None
        try:
            return self._session.request(
                request.method, request.address, headers=request.headers, data=data, stream=request.stream,
                timeout=TIMEOUT,
                auth=self._auth(request.scope) if self._ours(request.address) else _Nobody(),
            )  # fmt: skip
        finally:
            if data is not None and not isinstance(data, bytes):
                data.close()

    def _ours(self, address: str) -> bool:
        """Whether credentials may go there: to the registry alone, not to where it keeps its blobs."""
        return address.startswith(f"{self.base}/")

    def _auth(self, scope: str) -> requests.auth.AuthBase:
        if self._basic and self._credentials is not None:
            return requests.auth.HTTPBasicAuth(
                self._credentials.user.encode(), self._credentials.secret.encode()
            )
        return _Bearer(self._tokens[scope]) if scope in self._tokens else _Nobody()

    def _answer(self, challenge: str, scope: str) -> bool:
        """Get ready for a second try, as a 401's challenge says; False where that is no use."""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            first = not self._basic and self._credentials is not None and not self._credentials.identity
            self._basic = self._basic or first
            return first
        if kind.lower() != "bearer":
            return False
        asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        realm = asked.get("realm", "")
        secure = urlsplit(realm).scheme == "https" or self.base.startswith("http:")
        if not realm or not secure:
            raise RegistryError(
                "refused", f"{self.host} asks for a token from {realm or 'nowhere'}", expected="https://..."
            )
        self._tokens[scope] = self._token(realm, asked.get("service", ""), asked.get("scope") or scope)
        return True

    def _token(self, realm: str, service: str, scope: str) -> str:
        mine, asked = self._credentials, {"service": service, "scope": scope}
        auth: requests.auth.AuthBase = _Nobody()
        if mine is not None and not mine.identity:
            auth = requests.auth.HTTPBasicAuth(mine.user.encode(), mine.secret.encode())
        if mine is not None and mine.identity:
            form = {**asked, "grant_type": "refresh_token", "refresh_token": mine.secret}
            form["client_id"] = "tensorflow-triton-stack"
            answer = self._session.post(realm, data=form, auth=auth, timeout=TIMEOUT)
        else:
            answer = self._session.get(realm, params=asked, auth=auth, timeout=TIMEOUT)
        if _passing(answer.status_code):  # tried again, as any other request
            answer.close()
            raise requests.ConnectionError(f"{realm} answered {answer.status_code}")
        if answer.status_code in (401, 403):
            raise self._error("GET", answer)
        if answer.status_code != 200:  # a 404 of it must not look like a tag that is not there
            found = f"{realm}, which gives tokens for {self.host}, answered {answer.status_code}"
            raise RegistryError("refused", found, details=_words(answer))
        try:
            data = answer.json()
            return str(data.get("token") or data["access_token"])
        except (ValueError, KeyError, AttributeError, TypeError) as e:
            raise RegistryError("refused", f"{realm} answered no token", expected="JSON with token") from e

    def _untrusted(self, error: Exception) -> RegistryError:
        return RegistryError(
            "refused",
            f"the certificate of the registry {self.host} is not trusted here",
            details=str(error).rpartition("Caused by ")[2][:300],
            remedy="a certificate of your own is named by REGISTRY_CA=FILE",
        )

    def _unreachable(self, error: Exception) -> RegistryError:
        words = str(error).rpartition("Caused by ")[2][:300] or type(error).__name__
        return RegistryError(
            "unreachable",
            f"the registry {self.host} cannot be reached",
            details=words,
            remedy="is it running, and REGISTRY right? Plain HTTP needs REGISTRY_INSECURE=1, a certificate "
            "of your own REGISTRY_CA=FILE",
        )

    def _error(self, method: str, answer: requests.Response) -> RegistryError:
        code = answer.status_code
        place = urlsplit(answer.url)
        what = f"{self.host} answered {code} to {method} {place.path}"
        details = _words(answer)
        if code in (401, 403):
            who = "without credentials" if self._credentials is None else "with the given credentials"
            remedy = f"docker login {self.host}, with an account that may do this"
            return RegistryError("denied", f"{what} {who}", details=details, remedy=remedy)
        if code == 404:
            return RegistryError("missing", what, details=details)
        if _passing(code):
            return RegistryError("unreachable", what, details=details, remedy="try again later")
        return RegistryError("refused", what, details=details)


class _Nobody(requests.auth.AuthBase):
    """No credentials; and none that requests would take from a .netrc."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        return r


class _Bearer(requests.auth.AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        r.headers["Authorization"] = f"Bearer {self._token}"
        return r


def _passing(code: int) -> bool:
    """Whether the same request may do better later."""
    return code == 429 or code >= 500


def _pause(attempt: int, asked: str | None = None) -> float:
    """Seconds before the next try."""
    if asked and asked.isdigit():
        return min(float(asked), _LONGEST)
    return float(_WAIT * 2 ** (attempt - 1))


def _words(answer: requests.Response) -> str:
    """The registry's own words, from the distribution specification's errors."""
    try:
        text = next(answer.iter_content(_LARGEST), b"").decode("utf-8", "replace")
    except requests.RequestException:
        return ""
    finally:
        answer.close()
    try:
        data: Any = json.loads(text)
        return "\n".join(f"{e['code']}: {e.get('message', '')}" for e in data["errors"])[:500]
    except (ValueError, KeyError, TypeError, AttributeError):
        return text.strip()[:300]
