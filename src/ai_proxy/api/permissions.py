"""Who may do what: every route has a line here, and a test fails when one has none."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from ai_proxy.core.types import Role, Scope

ALL: frozenset[Role] = frozenset({"admin", "member", "viewer"})
WRITERS: frozenset[Role] = frozenset({"admin", "member"})
ADMINS: frozenset[Role] = frozenset({"admin"})


class Permission(NamedTuple):
    """`scope`: what a key must be allowed; None if no key will do. `or_scope`: what will do as well. `roles`: whose.

    `by_session`: whether a login will do. With neither, anybody may. Whose objects a person may see and change, the
    services decide: an administrator those of all, others their own.
    """

    scope: Scope | None = None
    roles: frozenset[Role] = ALL
    by_session: bool = False
    or_scope: Scope | None = None

    @property
    def is_public(self) -> bool:
        return self.scope is None and not self.by_session

    def admits(self, scopes: Collection[Scope]) -> bool:
        """Whether a key with these scopes will do."""
        return self.scope in scopes or self.or_scope in scopes


PUBLIC = Permission()
CALLS = Permission(scope="calls", roles=WRITERS)
HISTORY = Permission(scope="history")
PERSONAL = Permission(by_session=True)  # about the login itself
READING = Permission(scope="manage", by_session=True)
WRITING = Permission(scope="manage", roles=WRITERS, by_session=True)
OWN_OR_READING = Permission(scope="history", by_session=True, or_scope="manage")
OWN_OR_WRITING = Permission(scope="history", roles=WRITERS, by_session=True, or_scope="manage")
ADMINISTRATION = Permission(scope="manage", roles=ADMINS, by_session=True)

PERMISSIONS: Mapping[tuple[str, str], Permission] = {
    ("POST", "/api/ask"): CALLS,
    ("POST", "/api/streaming"): CALLS,
    ("GET", "/api/history"): OWN_OR_READING,
    ("GET", "/api/history/export"): OWN_OR_READING,
    ("POST", "/api/history/import"): ADMINISTRATION,
    ("GET", "/api/history/{exchange_id}"): OWN_OR_READING,
    ("DELETE", "/api/history/{exchange_id}"): WRITING,
    ("PUT", "/api/history/{exchange_id}/feedback"): OWN_OR_WRITING,
    ("DELETE", "/api/history/{exchange_id}/feedback"): OWN_OR_WRITING,
    ("PUT", "/api/history/{exchange_id}/tags"): OWN_OR_WRITING,
    ("POST", "/api/history/{exchange_id}/fork"): OWN_OR_WRITING,
    ("GET", "/api/conversations"): OWN_OR_READING,
    ("GET", "/api/conversations/{conversation_id}"): OWN_OR_READING,
    ("PATCH", "/api/conversations/{conversation_id}"): OWN_OR_WRITING,
    ("DELETE", "/api/conversations/{conversation_id}"): WRITING,
    ("DELETE", "/api/users/{user_id}/history"): WRITING,
    ("GET", "/api/me/usage"): HISTORY,
    ("GET", "/api/usage"): READING,
    ("GET", "/api/audit"): ADMINISTRATION,
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
    ("POST", "/api/auth/login"): PUBLIC,
    ("POST", "/api/auth/setup"): PUBLIC,
    ("GET", "/api/auth/oidc/login"): PUBLIC,
    ("GET", "/api/auth/oidc/callback"): PUBLIC,
    ("POST", "/api/auth/logout"): PERSONAL,
    ("GET", "/api/auth/me"): READING,
    ("POST", "/api/auth/password"): PERSONAL,
    ("GET", "/api/auth/sessions"): PERSONAL,
    ("DELETE", "/api/auth/sessions/{session_id}"): PERSONAL,
    ("GET", "/api/users"): ADMINISTRATION,
    ("POST", "/api/users"): ADMINISTRATION,
    ("GET", "/api/users/{user_id}"): ADMINISTRATION,
    ("PATCH", "/api/users/{user_id}"): ADMINISTRATION,
    ("GET", "/api/keys"): READING,
    ("POST", "/api/keys"): WRITING,
    ("GET", "/api/keys/{key_id}"): READING,
    ("PATCH", "/api/keys/{key_id}"): WRITING,
    ("DELETE", "/api/keys/{key_id}"): WRITING,
    ("POST", "/api/keys/{key_id}/rotate"): WRITING,
    ("GET", "/api/projects"): READING,
    ("POST", "/api/projects"): ADMINISTRATION,
    ("GET", "/api/projects/{project_id}"): READING,
    ("PATCH", "/api/projects/{project_id}"): ADMINISTRATION,
    ("PUT", "/api/projects/{project_id}/members/{user_id}"): ADMINISTRATION,
    ("DELETE", "/api/projects/{project_id}/members/{user_id}"): ADMINISTRATION,
    ("GET", "/api/limits"): READING,
    ("PUT", "/api/limits/service"): ADMINISTRATION,
    ("DELETE", "/api/limits/service"): ADMINISTRATION,
    ("PUT", "/api/limits/{kind}/{subject_id}"): WRITING,
    ("DELETE", "/api/limits/{kind}/{subject_id}"): WRITING,
    ("GET", "/api/budgets"): READING,
    ("PUT", "/api/budgets/service/{period}"): ADMINISTRATION,
    ("DELETE", "/api/budgets/service/{period}"): ADMINISTRATION,
    ("PUT", "/api/budgets/{kind}/{subject_id}/{period}"): WRITING,
    ("DELETE", "/api/budgets/{kind}/{subject_id}/{period}"): WRITING,
    ("GET", "/"): PUBLIC,
    ("HEAD", "/"): PUBLIC,
    ("GET", "/livez"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/metrics"): PUBLIC,
    ("GET", "/docs"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
}
