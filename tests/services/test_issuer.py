"""An issuer of OpenID Connect that is away, or has new keys: how often it is asked."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest

from ai_proxy.core.exceptions import NotSignedIn, Unavailable
from ai_proxy.core.groups import OidcSettings
from ai_proxy.core.upstream_errors import UpstreamUnreachable
from ai_proxy.services.issuer import Issuer
from tests.issuer import CLIENT_ID, KEYS, signed, signed_by_somebody_else

pytestmark = pytest.mark.anyio

URL = "https://issuer.example"
SETTINGS = OidcSettings(
    issuer=URL, client_id=CLIENT_ID, client_secret="s", callback_url="https://proxy.example/api/auth/oidc/callback"
)


class Reply:
    status = 200

    def __init__(self, body: object) -> None:
        self._body = body

    async def read(self) -> bytes:
        return json.dumps(self._body).encode()


class Network:
    """In the place of the HTTP client: the issuer's answers by path. Each takes a while, and may be that it is away."""

    def __init__(self) -> None:
        self.away = False
        self.asked: list[str] = []
        self.answers: dict[str, object] = {
            "/.well-known/openid-configuration": {
                "issuer": URL,
                "authorization_endpoint": f"{URL}/authorize",
                "token_endpoint": f"{URL}/token",
                "jwks_uri": f"{URL}/keys",
            }
        }
        self.publish("one")

    def publish(self, *kids: str) -> None:
        self.answers["/keys"] = {"keys": [KEYS[kid].as_dict(private=False) for kid in kids]}

    def channel(self, *_, **__) -> "Network":
        return self

    @asynccontextmanager
    async def request(self, _method, url, *_):
        self.asked.append(url.path)
        await asyncio.sleep(0)
        if self.away:
            raise UpstreamUnreachable("oidc", "nobody is there")
        yield Reply(self.answers[url.path])


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def now():
    """The time of day, which tests may turn on."""
    return [time.time()]


@pytest.fixture
def issuer(network, now):
    return Issuer(network, SETTINGS, lambda: now[0])


async def outcomes(*attempts) -> list[object]:
    return await asyncio.gather(*attempts, return_exceptions=True)


def token(**claims) -> dict:
    at = int(time.time())
    return {"iss": URL, "sub": "ada", "aud": CLIENT_ID, "iat": at, "exp": at + 300, "nonce": "n", **claims}


async def test_one_of_many_finds_out_that_the_issuer_is_away(issuer, network):
    network.away = True

    found = await outcomes(*(issuer.address(state="s") for _ in range(100)))

    assert {type(outcome) for outcome in found} == {Unavailable}
    assert len(network.asked) == 1


async def test_an_issuer_that_was_away_is_asked_again_after_five_seconds(issuer, network, now):
    network.away = True
    await outcomes(issuer.address(state="s"))
    network.away = False

    now[0] += 4.9
    [early] = await outcomes(issuer.address(state="s"))
    now[0] += 0.2
    address = await issuer.address(state="s")

    assert isinstance(early, Unavailable)
    assert address.startswith(f"{URL}/authorize?")


async def test_a_clock_that_is_set_back_does_not_keep_the_issuer_away(issuer, network, now):
    network.away = True
    await outcomes(issuer.address(state="s"))
    network.away = False

    now[0] -= 3600

    assert await issuer.address(state="s")


async def test_new_keys_are_fetched_once_for_all_who_come_with_them(issuer, network):
    await issuer.address(state="s")
    network.publish("two")
    network.answers["/token"] = {"id_token": signed(token(), "two")}
    network.asked.clear()

    found = await outcomes(*(issuer.claims("code", verifier="v", nonce="n") for _ in range(10)))

    assert [claims["sub"] for claims in found] == ["ada"] * 10
    assert network.asked.count("/keys") == 1


async def test_a_token_of_a_key_that_is_never_published_proves_nothing(issuer, network):
    network.answers["/token"] = {"id_token": signed(token(), "two")}

    [refused] = await outcomes(issuer.claims("code", verifier="v", nonce="n"))
    network.answers["/token"] = {"id_token": signed_by_somebody_else(token())}
    [forged] = await outcomes(issuer.claims("code", verifier="v", nonce="n"))

    assert isinstance(refused, NotSignedIn)
    assert isinstance(forged, NotSignedIn)
