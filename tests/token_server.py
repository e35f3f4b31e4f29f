"""Token server of OpenID Connect on 127.0.0.1: signed tokens for one client, by its credentials.

    async with TokenServer(life_seconds=60) as server:
        ...   # server.url, server.tokens; server.jwks for those who check the signatures

Tokens are JWTs under RS256, whose key is made here: a prime is what looks like one to base 2.
"""

import asyncio
import hashlib
import json
import math
import random
import ssl
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from aiohttp import web

from stream_app.config.settings import Kafka
from stream_app.embedded.process import HOST
from tests.certificates import Identity

CLIENT = "worker:1"
SECRET = "only ~/known+here"  # noqa: S105 - a made-up one
SCOPE = "kafka"
ISSUER = "https://issuer.example"
AUDIENCE = "kafka"
SUBJECT = "stream-app"
KEY_BITS = 2048
EXPONENT = 65_537
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""What PKCS #1 puts before a SHA-256."""

Answer = Callable[[web.Request], web.StreamResponse]


def encoded(content: bytes) -> str:
    """Return content as JOSE writes it."""
    return urlsafe_b64encode(content).decode().rstrip("=")


def _number(number: int) -> str:
    return encoded(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _prime(bits: int, chance: random.Random) -> int:
    small = [it for it in range(3, 2_000, 2) if pow(2, it - 1, it) == 1]
    while True:
        found = chance.getrandbits(bits) | (3 << (bits - 2)) | 1
        if all(found % it for it in small) and pow(2, found - 1, found) == 1:
            return found


@cache
def _key(seed: int) -> tuple[int, int]:
    """Return both primes."""
    chance = random.Random(seed)
    return _prime(KEY_BITS // 2, chance), _prime(KEY_BITS // 2, chance)


def _power(content: int, one: int, other: int) -> int:
    """Return content to the private exponent, by the Chinese remainder theorem: four times as fast,
    and no other thread runs meanwhile."""
    private = pow(EXPONENT, -1, (one - 1) * (other - 1))
    of_one = pow(content % one, private % (one - 1), one)
    of_other = pow(content % other, private % (other - 1), other)
    return of_other + other * ((of_one - of_other) * pow(other, -1, one) % one)


def jwks(seed: int = 1) -> str:
    """Return the document by which others check the signatures."""
    modulus = math.prod(_key(seed))
    key = {"kty": "RSA", "kid": "1", "use": "sig", "alg": "RS256"}
    return json.dumps({"keys": [key | {"n": _number(modulus), "e": _number(EXPONENT)}]})


def signed(claims: dict[str, Any], seed: int = 1) -> str:
    """Return claims as a token."""
    modulus = math.prod(_key(seed))
    parts = ({"alg": "RS256", "kid": "1", "typ": "JWT"}, claims)
    text = ".".join(encoded(json.dumps(it).encode()) for it in parts)
    size = (modulus.bit_length() + 7) // 8
    digest = DIGEST_INFO + hashlib.sha256(text.encode()).digest()
    padded = b"\0\1" + b"\xff" * (size - 3 - len(digest)) + b"\0" + digest
    signature = _power(int.from_bytes(padded, "big"), *_key(seed))
    return f"{text}.{encoded(signature.to_bytes(size, 'big'))}"


class TokenServer:
    """The server, while it is entered.

    Args:
        life_seconds: For how long its tokens are valid.
        seed: Of its key.
        identity: Its key and certificate for HTTPS; None: HTTP.
        answer: Response in place of a token.
    """

    def __init__(
        self,
        *,
        life_seconds: float = 60,
        seed: int = 1,
        identity: Identity | None = None,
        answer: Answer | None = None,
    ) -> None:
        self.life_seconds = life_seconds
        self.seed = seed
        self.answer = answer
        self.tokens: list[str] = []
        """Those that were issued."""
        self.requests = 0
        self._identity = identity
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/token", self._issue)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        context = None
        if self._identity is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._identity.both)
        site = web.TCPSite(self._runner, HOST, 0, ssl_context=context)
        await site.start()
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://{HOST}:{self._runner.addresses[0][1]}/token"
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _issue(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.answer is not None:
            return self.answer(request)
        joined = b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        if [unquote(it) for it in joined.split(":")] != [CLIENT, SECRET]:
            return web.json_response({"error": "invalid_client"}, status=401)
        form = await request.post()
        if form["grant_type"] != "client_credentials":
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        if form.get("scope") != SCOPE:
            return web.json_response({"error": "invalid_scope"}, status=400)
        now = time.time()
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "scope": SCOPE, "iat": int(now)}
        claims |= {"exp": math.ceil(now + self.life_seconds), "jti": str(len(self.tokens))}
        token = await asyncio.to_thread(signed, claims, self.seed)
        self.tokens.append(token)
        document = {"access_token": token, "token_type": "Bearer"}
        return web.json_response(document | {"expires_in": self.life_seconds})

    def kafka(self, broker: str = "kafka://127.0.0.1:1", **changes: Any) -> Kafka:
        """Return the settings of a client that gets its tokens here."""
        settings: dict[str, Any] = {
            "security_protocol": "sasl_plaintext",
            "sasl_mechanism": "OAUTHBEARER",
            "sasl_token_provider": "oidc",
            "sasl_oidc_token_url": self.url,
            "sasl_oidc_client_id": CLIENT,
            "sasl_oidc_client_secret": SECRET,
            "sasl_oidc_scope": SCOPE,
        }
        return Kafka(broker, **(settings | changes))
