"""Requests for tokens as they travel to a token server, and what is said of its faults."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stream_app.embedded.process import HOST, free_ports
from stream_app.errors import SetupError
from stream_app.kafka.login_tokens import RESPONSE_BYTES_MAX
from stream_app.kafka.token_server import request_token
from tests.certificates import Identity, identities
from tests.chaos.harness import in_a_loop
from tests.contract.recorder import answer, hang, recorder
from tests.secrets import given_away
from tests.token_server import CLIENT, SECRET, TokenServer

SECONDS_MAX = 60.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Identity]:
    return identities(tmp_path_factory.mktemp("identities"), ("server", "stranger"))


async def token(server: TokenServer, seconds_max: float = SECONDS_MAX, **changes: Any) -> str:
    kafka = server.kafka(**changes)
    return (await asyncio.to_thread(request_token, kafka, seconds_max)).value


async def refusal(server: TokenServer, seconds_max: float = SECONDS_MAX, **changes: Any) -> str:
    """Return what is said instead of a token: one line, without the secret."""
    with pytest.raises(SetupError) as caught:
        await token(server, seconds_max, **changes)
    text = str(caught.value)
    assert "\n" not in text
    assert given_away({"the secret": SECRET}, [text]) == []
    return text


@in_a_loop
async def test_token_is_requested_by_client_credentials() -> None:
    async with TokenServer() as server:
        assert await token(server) == server.tokens[0]


@in_a_loop
async def test_token_is_requested_over_tls_of_the_named_authority(made: list[Identity]) -> None:
    async with TokenServer(identity=made[0]) as server:
        assert await token(server, sasl_oidc_ca_file=str(made[0].certificate)) == server.tokens[0]


@in_a_loop
async def test_certificate_of_another_token_server_is_explained(made: list[Identity]) -> None:
    async with TokenServer(identity=made[0]) as server:
        text = await refusal(server, sasl_oidc_ca_file=str(made[1].certificate))
        assert text.startswith(
            f"token server {server.url} shows a certificate that is not trusted: self-signed "
        )
        assert text.endswith("; set [kafka] sasl_oidc_ca_file to the authority that signed it")
        assert server.requests == 0


@in_a_loop
async def test_unusable_file_of_authorities_is_named(tmp_path: Path) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.write_text("no certificate", "ascii")
    async with TokenServer() as server:
        for path in (missing, empty):
            text = await refusal(server, sasl_oidc_ca_file=str(path))
            assert text.startswith(f"[kafka] sasl_oidc_ca_file '{path}' cannot be used: ")


@in_a_loop
async def test_secret_comes_from_its_file_anew_for_each_token(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    changes = {"sasl_oidc_client_secret": None, "sasl_oidc_client_secret_file": str(file)}
    async with TokenServer() as server:
        file.write_text("another", "utf-8")
        text = await refusal(server, **changes)
        assert text.endswith(f"wrong client or secret; set [kafka] sasl_oidc_client_id and {file}")
        file.write_text(f"{SECRET}\n", "utf-8")
        assert await token(server, **changes) == server.tokens[0]


@in_a_loop
async def test_wrong_secret_is_explained() -> None:
    async with TokenServer() as server:
        text = await refusal(server, sasl_oidc_client_secret="another")  # noqa: S106 - not a real one
        assert f"refuses client '{CLIENT}' (status 401, invalid_client): wrong client or" in text


@in_a_loop
async def test_wrong_scope_is_explained() -> None:
    async with TokenServer() as server:
        text = await refusal(server, sasl_oidc_scope=None)
        assert "refuses the scope (status 400, invalid_scope)" in text


@in_a_loop
async def test_server_that_is_down_is_explained() -> None:
    url = f"http://{HOST}:{free_ports(1)[0]}/token"
    text = await refusal(TokenServer(), sasl_oidc_token_url=url)
    assert text == (
        f"token server {url} does not respond (Connection refused); is it running? Set [kafka] "
        "sasl_oidc_token_url to its token endpoint"
    )


@in_a_loop
async def test_server_that_is_silent_is_left_when_the_time_is_over() -> None:
    async with recorder(hang) as silent:
        text = await refusal(TokenServer(), 0.2, sasl_oidc_token_url=silent.endpoint_url)
        assert " does not respond (timed out); is it running?" in text


@in_a_loop
async def test_server_of_another_protocol_is_explained(made: list[Identity]) -> None:
    async with TokenServer(identity=made[0]) as encrypted, TokenServer() as plain:
        for server in (encrypted, plain):
            scheme, rest = server.url.split("://")
            other = f"{'http' if scheme == 'https' else 'https'}://{rest}"
            text = await refusal(server, sasl_oidc_token_url=other)
            assert text.startswith(f"token server {other} ")


@pytest.mark.parametrize(
    ("answer_of", "expected"),
    [
        (lambda _: web.Response(text="{"), "responds with something other than a JSON object"),
        (lambda _: web.json_response({}), "responds with no access_token"),
        (lambda _: web.json_response({"access_token": "x"}), "responds with no expires_in"),
        (lambda _: web.Response(body=bytes(2 * RESPONSE_BYTES_MAX)), "sends more than 262144 byt"),
        (
            lambda _: web.Response(status=302, headers={"Location": "/token"}),
            "redirects (status 302), which no secret follows",
        ),
        (lambda _: web.Response(status=503), "responds with status 503; is it well"),
        (lambda _: web.Response(status=404), "responds with status 404; is it well"),
    ],
)
@in_a_loop
async def test_unusable_response_is_explained(
    answer_of: Callable[[web.Request], web.StreamResponse], expected: str
) -> None:
    async with TokenServer(answer=answer_of) as server:
        assert f"token server {server.url} {expected}" in await refusal(server)
        assert server.requests == 1


@in_a_loop
async def test_file_of_other_logins_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {HOST} login other password wrong\n", "ascii")
    monkeypatch.setenv("NETRC", str(netrc))
    async with TokenServer() as server:
        assert await token(server) == server.tokens[0]


@in_a_loop
async def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    body = '{"access_token": "abc", "expires_in": 60}'
    async with recorder(answer("200 OK", body, "application/json")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint_url)
        monkeypatch.setenv("no_proxy", HOST)
        elsewhere = "http://tokens.example/token"
        assert await token(TokenServer(), sasl_oidc_token_url=elsewhere) == "abc"
        assert proxy.requests[0].target == elsewhere
        async with TokenServer() as server:
            assert await token(server) == server.tokens[0]


@in_a_loop
async def test_response_is_wanted_as_plain_json() -> None:
    body = '{"access_token": "abc", "expires_in": 60}'
    async with recorder(answer("200 OK", body, "application/json")) as seen:
        assert await token(TokenServer(), sasl_oidc_token_url=seen.endpoint_url) == "abc"
        (request,) = seen.requests
        assert request.method == "POST"
        assert request.headers["accept"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert request.body == b"grant_type=client_credentials&scope=kafka"
