"""Login by OpenID Connect: the way to the issuer and back, and the users that come by it.

The code flow with PKCE: https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ai_proxy.core.exceptions import BadRequest, Conflict, PermissionDenied
from ai_proxy.core.groups import OidcSettings
from ai_proxy.core.types import OPERATOR_ID, Actor
from ai_proxy.services.accounts import Accounts, Caller
from ai_proxy.services.audit import note
from ai_proxy.services.issuer import Issuer
from ai_proxy.services.users import add
from ai_proxy.storage import users
from ai_proxy.storage.engine import Connection, Database

PATIENCE = 600  # seconds that somebody may take at the issuer
_MAX_SUBJECT = 500
_MAX_USED = 10_000
_MAX_LENGTH = 4096  # of what a browser brings


class Pending(msgspec.Struct, frozen=True):
    """A login that has begun. The browser keeps it, signed; `until` is in seconds since the epoch."""

    state: str
    nonce: str
    verifier: str
    until: int


class Answer(msgspec.Struct, frozen=True):
    """What the browser brings from the issuer."""

    state: str = ""
    code: str = ""
    error: str = ""
    issuer: str | None = None


class Oidc:
    """`clock` gives seconds since the epoch."""

    def __init__(
        self,
        issuer: Issuer,
        accounts: Accounts,
        database: Database,
        *,
        secret: bytes,
        settings: OidcSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._accounts = accounts
        self._database = database
        self._key = hmac.digest(secret, b"a login by OpenID Connect", "sha256")  # for nothing else
        self._settings = settings
        self._clock = clock
        self._used: OrderedDict[str, int] = OrderedDict()

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach us by HTTPS."""
        return (self._settings.callback_url or "").startswith("https://")

    async def begin(self) -> tuple[str, str]:
        """Where to send the browser, and what it must bring back itself. Raises `Unavailable`."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        pending = Pending(state, nonce, verifier, int(self._clock()) + PATIENCE)
        address = await self._issuer.address(
            state=state,
            nonce=nonce,
            code_challenge=_base64(hashlib.sha256(verifier.encode()).digest()),
            code_challenge_method="S256",
        )
        return address, self._signed(pending)

    async def complete(self, answer: Answer, brought: str | None, caller: Caller) -> str:
        """The token of a new session.

        Raises `BadRequest` for an answer to another question, `NotSignedIn` for one that proves nothing,
        `PermissionDenied` for somebody who may not come in, `Conflict` if the name is another's, or `Unavailable`.
        """
        pending = self._checked(answer, brought)
        if answer.error or not answer.code:
            message = "The issuer has not let you sign in."
            raise PermissionDenied(message)
        claims = await self._issuer.claims(answer.code, verifier=pending.verifier, nonce=pending.nonce)
        subject = f"{self._issuer.name}|{claims['sub']}"
        refusal = await self._refusal(subject, claims)
        if refusal:
            await self._note_failure(refusal, caller)
            raise PermissionDenied(refusal)
        async with self._database.changing() as connection:
            row = await users.find_by_oidc_subject(connection, subject)
            if row is None:
                row = await self._add(connection, subject, str(claims[self._settings.name_claim]), caller)
            _, token = await self._accounts.admit(connection, row, caller, by="oidc")
        return token

    def _checked(self, answer: Answer, brought: str | None) -> Pending:
        """The login that this answers, which is answered once. Raises `BadRequest`."""
        pending = self._opened(brought)
        issuer = self._issuer.name if answer.issuer is None else answer.issuer  # RFC 9207
        now = int(self._clock())
        if (
            pending is None
            or not hmac.compare_digest(pending.state.encode(), answer.state.encode())
            or issuer != self._issuer.name
            or pending.until <= now
            or pending.state in self._used
        ):
            message = "state: this login was not begun in this browser, is over, or took too long: begin anew."
            raise BadRequest(message, param="state")
        self._used[pending.state] = pending.until
        while len(self._used) > _MAX_USED or next(iter(self._used.values())) <= now:
            self._used.popitem(last=False)
        return pending

    async def _refusal(self, subject: str, claims: Mapping[str, Any]) -> str | None:
        """Why this person may not come in."""
        name, email = claims.get(self._settings.name_claim), claims.get("email")
        if len(subject) > _MAX_SUBJECT or not (isinstance(name, str) and name.strip()):
            return f"The issuer does not say who you are: the claim {self._settings.name_claim!r} is missing."
        verified = claims.get("email_verified")
        if self._settings.name_claim == "email" and verified is False:
            return "The issuer has not verified your e-mail address."
        if self._settings.allowed_domains and not (verified is True and self._is_allowed(email)):
            return "Only verified e-mail addresses of certain domains may sign in here."
        async with self._database.transaction() as connection:
            row = await users.find_by_oidc_subject(connection, subject)
        return "This user is disabled." if row is not None and row.disabled_at is not None else None

    def _is_allowed(self, email: Any) -> bool:
        domain = email.rpartition("@")[2].lower() if isinstance(email, str) else ""
        return domain in {allowed.lower() for allowed in self._settings.allowed_domains}

    async def _add(self, connection: Connection, subject: str, name: str, caller: Caller) -> Any:
        actor = Actor(
            user_id=OPERATOR_ID, name="oidc", role="admin", address=caller.address, request_id=caller.request_id
        )
        try:
            made = await add(connection, actor, name, role=self._settings.default_role, password=None)
        except Conflict:
            message = "There is a user of this name already, who does not sign in this way: ask an administrator."
            raise Conflict(message) from None
        await users.change(connection, made.id, oidc_subject=subject)
        return await users.find(connection, made.id)

    async def _note_failure(self, reason: str, caller: Caller) -> None:
        actor = Actor(user_id="", name="unknown", role="viewer", address=caller.address, request_id=caller.request_id)
        async with self._database.transaction() as connection:
            await note(connection, actor, "login.failed", "user:unknown", by="oidc", reason=reason)

    def _signed(self, pending: Pending) -> str:
        content = _base64(msgspec.json.encode(pending))
        return f"{content}.{self._signature(content)}"

    def _opened(self, brought: str | None) -> Pending | None:
        if brought is None or len(brought) > _MAX_LENGTH or not brought.isascii():
            return None
        content, _, signature = brought.partition(".")
        if not hmac.compare_digest(signature, self._signature(content)):
            return None
        return msgspec.json.decode(base64.urlsafe_b64decode(content + "=="), type=Pending)

    def _signature(self, content: str) -> str:
        return hmac.new(self._key, content.encode(), "sha256").hexdigest()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
