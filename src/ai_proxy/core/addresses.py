"""Addresses of providers: what may stand in one, what it must end with, and whose it is."""

from urllib.parse import urlsplit

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def checked(url: str) -> str:
    """The address without a slash at its end. Raises `ValueError` for what cannot be one."""
    if not url.startswith(("http://", "https://")):
        message = "must begin with http:// or https://"
        raise ValueError(message)
    parts = urlsplit(url)
    if not (url.isascii() and url.isprintable() and " " not in url and parts.hostname and parts.port != 0):
        message = "is not an address"
        raise ValueError(message)
    if parts.query or parts.fragment:
        message = "must end with its path: a query or a fragment cannot be kept"
        raise ValueError(message)
    if parts.username is not None or parts.password is not None:
        message = "must not hold a name or a password: the key goes into its own variable"
        raise ValueError(message)
    return url.rstrip("/")


def ending_with(url: str, path: str) -> str:
    """The address with this path at its end, where it is not there already, or begun: /openai of /openai/v1."""
    if not path or url.endswith(path):
        return url
    return url.removesuffix("/" + path.split("/")[1]) + path


def is_at(url: str, home: str) -> bool:
    """Whether an address is at the same host as another, or at a host below that: eu.api.openai.com."""
    host, home_host = urlsplit(url).hostname or "", urlsplit(home).hostname or ""
    return host == home_host or host.endswith(f".{home_host}")


def leads_to(url: str, host: str, port: int) -> bool:
    """Whether who calls this address reaches a service that listens there, as far as names alone can tell."""
    parts = urlsplit(url)
    own = {host} if host not in {"0.0.0.0", "::"} else _LOOPBACK  # noqa: S104 - recognised, not listened on
    names = own | _LOOPBACK if own & _LOOPBACK else own
    default = 443 if parts.scheme == "https" else 80
    return (parts.port or default) == port and parts.hostname in names
