"""Who may do what: every route has a line here, and a test fails when one has none."""

from collections.abc import Mapping
from typing import NamedTuple

from ai_proxy.core.types import Role, Scope

ALL: frozenset[Role] = frozenset({"admin", "member", "viewer"})
WRITERS: frozenset[Role] = frozenset({"admin", "member"})
ADMINS: frozenset[Role] = frozenset({"admin"})


class Permission(NamedTuple):
    """`scope`: what a key must be allowed; None if no key will do. `roles`: whose.

    `by_session`: whether a login will do. With neither, anybody may. Whose objects a person may see and change, the
    services decide: an administrator those of all, others their own.
    """

    scope: Scope | None = None
    roles: frozenset[Role] = ALL
    by_session: bool = False

    @property
    def is_public(self) -> bool:
        return self.scope is None and not self.by_session


PUBLIC = Permission()
CALLS = Permission(scope="calls", roles=WRITERS)
HISTORY = Permission(scope="history")
PERSONAL = Permission(by_session=True)  # about the login itself
READING = Permission(scope="manage", by_session=True)
WRITING = Permission(scope="manage", roles=WRITERS, by_session=True)
ADMINISTRATION = Permission(scope="manage", roles=ADMINS, by_session=True)

PERMISSIONS: Mapping[tuple[str, str], Permission] = {
    ("POST", "/api/ask"): CALLS,
    ("POST", "/api/streaming"): CALLS,
    ("GET", "/api/history"): HISTORY,
    ("POST", "/v1/chat/completions"): CALLS,
    ("POST", "/v1/responses"): CALLS,
    ("GET", "/v1/responses/{response_id}"): CALLS,
    ("DELETE", "/v1/responses/{response_id}"): CALLS,
    ("POST", "/v1/messages"): CALLS,
    ("POST", "/v1/messages/count_tokens"): CALLS,
    ("POST", "/v1/completions"): CALLS,
    ("POST", "/v1/embeddings"): CALLS,
    ("POST", "/v1/moderations"): CALLS,
    ("GET", "/v1/models"): CALLS,
    ("GET", "/v1/models/{model:path}"): CALLS,
    ("GET", "/"): PUBLIC,
    ("HEAD", "/"): PUBLIC,
    ("GET", "/livez"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/metrics"): PUBLIC,
    ("GET", "/docs"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
}
