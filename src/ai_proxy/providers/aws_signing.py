"""Amazon's Signature Version 4, and the credentials for it.

The credentials come from wherever botocore finds them. The signature is our own, because botocore's cannot be told a
time, and a machine whose clock is wrong must sign with the time of the other side.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from importlib import import_module
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import quote

import structlog
from yarl import URL

from ai_proxy.core.sources import ConfigurationError, Problem
from ai_proxy.core.upstream_errors import ProviderAuth

log = structlog.get_logger()

_ALGORITHM = "AWS4-HMAC-SHA256"
_SERVICE = "bedrock"
# https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html: the first also stands for a wrong secret.
_SKEWED = frozenset({"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"})
_EXPIRED = frozenset({"ExpiredTokenException", "ExpiredToken"})
_TOLERATED = 60.0  # seconds between two clocks: signatures hold for five minutes
_SIGNING = ThreadPoolExecutor(1, "sign")  # of our own: what hangs in one of the common threads does not stop it


class Credentials(NamedTuple):
    access_key: str
    secret_key: str
    token: str | None = None


class Request(NamedTuple):
    """What is signed: JSON, or nothing. The URL's query must be encoded as RFC 3986 has it."""

    method: str
    url: URL
    body: bytes = b""


def signature(request: Request, credentials: Credentials, *, region: str, at: datetime) -> dict[str, str]:
    """The headers that make a request a signed one, `at` the time (UTC) of the other side.

    `host` is signed as well, and is sent with every request.
    """
    moment = at.strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "content-type": "application/json",
        "host": request.url.host_port_subcomponent or "",
        "x-amz-date": moment,
    }
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    names = ";".join(sorted(headers))
    scope = f"{moment[:8]}/{region}/{_SERVICE}/aws4_request"
    digest = sha256(_canonical(request, headers).encode()).hexdigest()
    to_sign = "\n".join((_ALGORITHM, moment, scope, digest))
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signed = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"{credentials.access_key}/{scope}"
    del headers["host"]
    headers["authorization"] = f"{_ALGORITHM} Credential={credential}, SignedHeaders={names}, Signature={signed}"
    return headers


def _canonical(request: Request, headers: Mapping[str, str]) -> str:
    """A path is quoted once more than it is on the wire: so it is for all services but S3."""
    return "\n".join(
        (
            request.method,
            quote(request.url.raw_path, safe="/~"),
            "&".join(sorted(filter(None, request.url.raw_query_string.split("&")))),
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            ";".join(sorted(headers)),
            sha256(request.body).hexdigest(),
        )
    )


class Signer:
    """Signs for one account. From refusals it learns the time of the other side, and that its credentials have expired.

    `load` may block, and fail in any way; with `anew=True` it is asked to forget what it knows.
    """

    def __init__(self, provider: str, region: str, load: Callable[..., Credentials | None]) -> None:
        self._provider = provider
        self._region = region
        self._load = load
        self._loading: Future[Credentials | None] | None = None
        self._ahead = 0.0  # of our clock, in seconds: how far that of the other side is
        self._expired = False

    async def headers(self, request: Request) -> dict[str, str]:
        """Waits for the credentials as long as it takes. Raises `ProviderAuth` when there are none."""
        credentials = await self._credentials()
        return await asyncio.get_running_loop().run_in_executor(_SIGNING, self._sign, request, credentials)

    def learns(self, code: str, date: str | None) -> bool:
        """Whether another try may do better after a refusal with this code, at this time of the other side."""
        if code in _EXPIRED:
            self._expired = True
            return True
        if code not in _SKEWED or date is None:
            return False
        try:
            there = parsedate_to_datetime(date)
        except (ValueError, OverflowError):
            return False
        ahead = there.replace(tzinfo=there.tzinfo or UTC).timestamp() - time.time()
        learned = abs(ahead - self._ahead) > _TOLERATED
        self._ahead = ahead if learned else self._ahead
        return learned

    async def _credentials(self) -> Credentials:
        """All calls wait for the same load: one that hangs, as a helper may for ever, costs one thread in all."""
        while True:
            if self._loading is None or self._loading.done():
                self._loading = self._begin()
            credentials = await asyncio.wrap_future(self._loading)
            if credentials is None:
                message = "there are no AWS credentials for it, or they cannot be fetched: its operator must check them"
                raise ProviderAuth(self._provider, message)
            if not self._expired:  # what was learned while this load ran is true of what it has found
                return credentials

    def _begin(self) -> Future[Credentials | None]:
        """The thread is one that the process does not wait for at its end."""
        anew, self._expired = self._expired, False
        loading: Future[Credentials | None] = Future()
        loading.set_running_or_notify_cancel()  # a call that stops waiting cannot cancel it from here on
        Thread(target=self._run, args=(loading, anew), name="credentials", daemon=True).start()
        return loading

    def _run(self, loading: Future[Credentials | None], anew: bool) -> None:
        try:
            loading.set_result(self._load(anew=anew))
        except Exception as error:  # noqa: BLE001 - helpers and files of the operator's: they fail in ways of any kind
            # Not its words: they may quote what a helper has printed.
            log.error("providers: no AWS credentials", provider=self._provider, error=type(error).__name__)
            loading.set_result(None)

    def _sign(self, request: Request, credentials: Credentials) -> dict[str, str]:
        at = datetime.fromtimestamp(time.time() + self._ahead, UTC)
        return signature(request, credentials, region=self._region, at=at)


class Chain:
    """Credentials as Amazon's own tools find them: from the environment, files, single sign-on or the machine's role.

    Raises `ConfigurationError` when botocore is not installed.
    """

    def __init__(self, provider: str) -> None:
        try:
            self._sessions = import_module("botocore.session")
        except ImportError:
            what = (
                "signing with AWS credentials needs one more package: pip install 'ai-proxy-gateway[bedrock]'. With a "
                "Bedrock API key (AWS_BEARER_TOKEN_BEDROCK) nothing is signed."
            )
            raise ConfigurationError(Problem(f"providers.{provider}", what)) from None
        self._found: Any = None

    def load(self, *, anew: bool = False) -> Credentials | None:
        """Those of now, None when there are none. Blocks: they may have to be fetched.

        `anew`: look everywhere again, the last ones have expired. Raises whatever botocore and a helper of the
        operator's raise, which is not only botocore's own errors: a program that is missing or prints no JSON.
        """
        if self._found is None or anew:
            self._found = self._sessions.Session().get_credentials()
        frozen = self._found and self._found.get_frozen_credentials()
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token) if frozen else None
