"""Where a browser's request comes from: a write that a cookie vouches for must come from our own pages."""

from urllib.parse import urlsplit

from fastapi import Request

from ai_proxy.core.exceptions import PermissionDenied

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN = frozenset({"same-origin", "none"})  # none: the person's own doing, such as a bookmark


def check(request: Request, *, required: bool) -> None:
    """Raises `PermissionDenied` for a request from another site.

    Browsers say where it comes from in `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/), over plain HTTP in
    `Origin` alone. One that says nothing comes from no browser, and is refused if an answer is `required`.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        own = site in _OWN
    elif origin is not None:
        own = _host(origin) == request.headers.get("host", "").lower()
    elif required:
        message = "With a session cookie, a change needs the header 'Origin' or 'Sec-Fetch-Site': browsers send them."
        raise PermissionDenied(message)
    else:
        return
    if not own:
        message = "This request comes from another site: send it from a page at this service's own address."
        raise PermissionDenied(message)


def is_secure(request: Request) -> bool:
    """Whether the browser reached us by HTTPS. Behind a proxy that we do not trust, the origin tells."""
    return request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
