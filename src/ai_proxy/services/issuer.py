"""Who vouches for people by OpenID Connect: its addresses and keys, and what it says of somebody who comes from there.

https://openid.net/specs/openid-connect-discovery-1_0.html
"""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec
import structlog
from yarl import URL

from ai_proxy.core.exceptions import GatewayError, NotSignedIn, Unavailable
from ai_proxy.core.groups import OidcSettings
from ai_proxy.core.types import Bounds
from ai_proxy.providers.http import Http
from ai_proxy.services import id_tokens
from ai_proxy.services.id_tokens import Expected, InvalidIdToken, UnknownSigner

log = structlog.get_logger()

_BOUNDS = Bounds(connect=5, first_byte=10, idle=5, total=15, max_bytes=256 * 1024)
_CALLS, _PATIENCE = 10, 5.0  # at one time, and seconds to wait for one of them to end
_TTL = 3600.0  # seconds that addresses and keys are remembered
_PAUSE = 5.0  # seconds after a failure in which it is not asked for them again
_OK, _BAD_REQUEST = 200, 400


class Metadata(msgspec.Struct, frozen=True):
    """What the issuer says of itself, as far as it matters here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str


class Issuer:
    """`clock` gives seconds since the epoch."""

    def __init__(self, http: Http, settings: OidcSettings, clock: Callable[[], float] = time.time) -> None:
        self.name = settings.issuer or ""
        self._settings = settings
        self._clock = clock
        self._channel = http.channel("oidc", max_connections=_CALLS, pool_timeout=_PATIENCE)
        self._metadata: Metadata | None = None
        self._keys: Mapping[str, Any] = {}
        self._fresh_until = 0.0
        self._failed = -_PAUSE
        self._fetching = asyncio.Lock()

    async def address(self, **query: str) -> str:
        """Where a browser is sent to sign in. Raises `Unavailable`."""
        metadata = await self._current()
        given = {"response_type": "code", "client_id": self._settings.client_id or "", "scope": "openid email profile"}
        given |= {"redirect_uri": self._settings.callback_url or "", **query}
        separator = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{separator}{urlencode(given)}"

    async def claims(self, code: str, *, verifier: str, nonce: str) -> dict[str, Any]:
        """What it says of the person whose browser brought `code`.

        Raises `Unavailable` while it cannot be asked, `NotSignedIn` if it does not know the code, or what it says
        cannot be relied on.
        """
        token = await self._exchange(code, verifier)
        expected = Expected(self.name, self._settings.client_id or "", nonce, int(self._clock()))
        keys = self._keys
        try:
            try:
                return id_tokens.read(token, keys, expected)
            except UnknownSigner:  # it has new keys
                return id_tokens.read(token, await self._newer(keys), expected)
        except InvalidIdToken as error:
            log.warning("oidc: an ID token was refused", reason=str(error))
            message = "What the issuer says of you cannot be relied on: sign in anew."
            raise NotSignedIn(message) from None

    async def _exchange(self, code: str, verifier: str) -> str:
        metadata = await self._current()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.callback_url or "",
            "code_verifier": verifier,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        secret = self._settings.client_secret.get_secret_value() if self._settings.client_secret else ""
        client_id = self._settings.client_id or ""
        if "client_secret_basic" in metadata.token_endpoint_auth_methods_supported:
            headers["authorization"] = _basic(client_id, secret)
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        status, body = await self._request("POST", metadata.token_endpoint, headers, urlencode(form).encode())
        if status == _BAD_REQUEST:
            message = "The issuer does not take this code: sign in anew."
            raise NotSignedIn(message)
        tokens: _Tokens = _decode(status, body, _Tokens)
        return tokens.id_token

    async def _current(self) -> Metadata:
        async with self._fetching:
            if self._metadata is None or self._clock() >= self._fresh_until:
                await self._fetch()
            assert self._metadata is not None  # noqa: S101 - fetched
            return self._metadata

    async def _newer(self, keys: Mapping[str, Any]) -> Mapping[str, Any]:
        """The keys that it has instead of these. Others may have fetched them meanwhile."""
        async with self._fetching:
            if self._keys is keys:
                await self._fetch()
            return self._keys

    async def _fetch(self) -> None:
        """Under the lock. While it is away, those who wait for the lock need not find that out one after the other."""
        if 0 <= self._clock() - self._failed < _PAUSE:
            raise _away()
        try:
            await self._read()
        except Unavailable:
            self._failed = self._clock()
            raise

    async def _read(self) -> None:
        found = await self._get(f"{self.name.rstrip('/')}/.well-known/openid-configuration", Metadata)
        for address in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
            if found.issuer != self.name or urlsplit(address).scheme not in {"https", urlsplit(self.name).scheme}:
                log.error("oidc: the issuer's description of itself does not fit its address")
                raise _away()
        self._keys = await self._get(found.jwks_uri, dict[str, Any])
        self._metadata, self._fresh_until = found, self._clock() + _TTL

    async def _get(self, address: str, kind: Any) -> Any:
        return _decode(*await self._request("GET", address, {}, None), kind)

    async def _request(
        self, method: str, address: str, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[int, bytes]:
        told = {"accept": "application/json", **headers}
        try:
            async with self._channel.request(method, URL(address, encoded=True), told, _BOUNDS, body) as reply:
                return reply.status, await reply.read()
        except GatewayError as error:
            log.warning("oidc: the issuer cannot be asked", error=error.code)
            raise _away() from None


def _decode(status: int, body: bytes, kind: Any) -> Any:
    try:
        if status == _OK:
            return msgspec.json.decode(body, type=kind)
        log.error("oidc: the issuer refuses us", status=status)
    except msgspec.MsgspecError:
        log.error("oidc: the issuer's answer is not what was asked for")
    raise _away()


def _basic(client_id: str, secret: str) -> str:
    """https://datatracker.ietf.org/doc/html/rfc6749#section-2.3.1"""
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _away() -> Unavailable:
    return Unavailable("The issuer of logins cannot be asked at the moment: try again in a few seconds.")
