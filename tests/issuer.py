"""An issuer of OpenID Connect: a real HTTP server with keys of its own, which does as a test tells it."""

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from joserfc import jws, jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT_ID = "ai-proxy"
CLIENT_SECRET = "client-secret:with+signs/0123456789"
KEYS = {kid: RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"}) for kid in ("one", "two")}


class Issuer:
    """`claims` are laid over those of a good token; a value of None takes one away."""

    def __init__(self) -> None:
        self.sign = signed
        self.reset()

    def reset(self) -> None:
        self.claims = {}
        self.sign = signed
        self.published = ["one"]
        self.metadata = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.requests: list[str] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}  # by path: instead of the proper ones

    def __enter__(self) -> "Issuer":
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                issuer.requests.append(self.path)
                self._answer(*issuer.get(self.path))

            def do_POST(self):
                issuer.requests.append(self.path)
                form = self.rfile.read(int(self.headers["content-length"])).decode()
                self._answer(*issuer.token(dict(parse_qsl(form)), self.headers["authorization"]))

            def _answer(self, status, headers, body):
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def get(self, path):
        if path in self.answers:
            return self.answers[path]
        if path == "/keys":
            return _json(200, {"keys": [KEYS[kid].as_dict(private=False) for kid in self.published]})
        described = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        return _json(200, described | self.metadata)

    def authorize(self, address: str, code: str = "the-code") -> dict[str, str]:
        """What a person's browser does at the issuer: the query that it comes back with."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        self.codes[code] = asked
        return {"code": code, "state": asked["state"]}

    def token(self, form, authorization):
        """A code is good once, from the client that it was made for, and with the verifier."""
        if "/token" in self.answers:
            return self.answers["/token"]
        asked = self.codes.pop(form["code"], None)
        client = base64.b64decode((authorization or "").removeprefix("Basic ")).decode().split(":")
        if authorization is None:
            client = [form["client_id"], form["client_secret"]]
        if [unquote(part) for part in client] != [CLIENT_ID, CLIENT_SECRET]:
            return _json(401, {"error": "invalid_client"})
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()
        if asked is None or challenge.rstrip("=") != asked["code_challenge"]:
            return _json(400, {"error": "invalid_grant"})
        assert form["redirect_uri"] == asked["redirect_uri"]
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "subject-1",
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "email": "Ada@Example.org",
            "email_verified": True,
        } | self.claims
        told = {name: value for name, value in claims.items() if value is not None}
        return _json(200, {"access_token": "access", "token_type": "Bearer", "id_token": self.sign(told)})


def signed(claims, kid: str = "one") -> str:
    return jwt.encode({"alg": "RS256", "kid": kid}, claims, KEYS[kid])


def unsigned(claims) -> str:
    parts = ({"alg": "none"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def signed_with_the_public_key(claims) -> str:
    secret = KEYS["one"].as_pem(private=False)
    return _hmac(claims, OctKey.import_key({"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode().rstrip("=")}))


def signed_with_the_client_secret(claims) -> str:
    return _hmac(claims, OctKey.import_key(CLIENT_SECRET))


def signed_by_somebody_else(claims) -> str:
    other = RSAKey.generate_key(2048, {"kid": "one"})
    return jwt.encode({"alg": "RS256", "kid": "one"}, claims, other)


def _hmac(claims, key) -> str:
    return jws.serialize_compact({"alg": "HS256", "kid": "one"}, json.dumps(claims), key, algorithms=["HS256"])


def _json(status, body):
    return status, {"content-type": "application/json"}, json.dumps(body).encode()
