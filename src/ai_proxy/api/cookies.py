"""The session cookie. Over HTTPS its name has a prefix that lets browsers take it from nobody but us."""

from fastapi import Request, Response

from ai_proxy.api import origin

_SECURE = "__Host-aiproxy_session"  # https://developer.mozilla.org/docs/Web/HTTP/Headers/Set-Cookie#cookie_prefixes
PLAIN = "aiproxy_session"


def token_in(request: Request) -> str | None:
    """The session's token. A plain cookie is not looked at over HTTPS: another site's page may have planted it."""
    name = _SECURE if _SECURE in request.cookies or request.url.scheme == "https" else PLAIN
    return request.cookies.get(name)


def give(request: Request, response: Response, token: str, *, secure: bool = False) -> None:
    """The cookie goes when the browser closes; the server ends the session in any case.

    `secure`: it is known that browsers reach us by HTTPS.
    """
    secure = secure or origin.is_secure(request)
    name = _SECURE if secure else PLAIN
    response.set_cookie(name, token, path="/", secure=secure, httponly=True, samesite="lax")


def take(request: Request, response: Response) -> None:
    """Have the browser forget the cookie it sent."""
    for name in (_SECURE, PLAIN):
        if name in request.cookies:
            response.delete_cookie(name, path="/", secure=name == _SECURE, httponly=True, samesite="lax")
