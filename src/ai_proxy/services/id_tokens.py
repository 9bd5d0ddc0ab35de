"""ID tokens of OpenID Connect: whether one is genuine, for us, and for this login. Needs the extra `oidc`."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from joserfc.jwk import Key, KeySet

# Signatures that only the issuer can make. With HS256 the client secret would do, or whatever we take for a key.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
_KINDS = frozenset({"RSA", "EC"})
_LEEWAY = 60  # seconds that the issuer's clock may differ from ours


class InvalidIdToken(Exception):
    """The message is for the log: it says what is wrong, and nothing of what is in the token."""


class UnknownSigner(InvalidIdToken):
    """It was signed with a key that is not among those given."""


class Expected(msgspec.Struct, frozen=True):
    """What must be in a token. `now` is in seconds since the epoch."""

    issuer: str
    client_id: str
    nonce: str
    now: int


def read(token: str, keys: Mapping[str, Any], expected: Expected) -> dict[str, Any]:
    """The claims of a token that is good. `keys` is the issuer's set of keys (JWKS). Raises `InvalidIdToken`."""
    from joserfc import jwt  # noqa: PLC0415 - an extra
    from joserfc.errors import InvalidKeyIdError, JoseError  # noqa: PLC0415

    claims_of = jwt.JWTClaimsRegistry(
        now=expected.now,
        leeway=_LEEWAY,
        iss={"essential": True, "value": expected.issuer},
        aud={"essential": True, "value": expected.client_id},
        nonce={"essential": True, "value": expected.nonce},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        claims = jwt.decode(token, _key_set(keys), list(ALGORITHMS)).claims
        claims_of.validate(claims)
    except InvalidKeyIdError:
        raise UnknownSigner("no key") from None
    except (JoseError, ValueError) as error:
        raise InvalidIdToken(_reason(error)) from None
    _check_party(claims, expected.client_id)
    return claims


def _check_party(claims: Mapping[str, Any], client_id: str) -> None:
    """A token for several must say that it was made for us: https://openid.net/specs/openid-connect-core-1_0.html"""
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise InvalidIdToken("azp")


def _key_set(keys: Mapping[str, Any]) -> "KeySet":
    from joserfc.jwk import KeySet  # noqa: PLC0415

    return KeySet(list(_usable(keys.get("keys"))))


def _usable(keys: Any) -> "Iterator[Key]":
    """Keys of a kind that nobody knows here are left out: the issuer may have others for others."""
    from joserfc.errors import JoseError  # noqa: PLC0415
    from joserfc.jwk import import_key  # noqa: PLC0415

    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, dict) or key.get("kty") not in _KINDS or key.get("use", "sig") != "sig":
            continue
        try:
            yield import_key(key)
        except (JoseError, ValueError, TypeError, KeyError):
            continue


def _reason(error: Exception) -> str:
    claim = getattr(error, "claim", None)
    return type(error).__name__ if claim is None else f"{type(error).__name__}: {claim}"
