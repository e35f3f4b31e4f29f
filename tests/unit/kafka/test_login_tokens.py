from base64 import b64encode
from dataclasses import replace

import orjson
import pytest

from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.kafka.login_tokens import (
    LIFE_SECONDS_MAX,
    RESPONSE_BYTES_MAX,
    RETRY_SECONDS,
    LoginToken,
    TokenState,
    login_message,
    oidc_request,
    oidc_token,
    relogin_seconds,
    token_refusal,
)
from tests.secrets import given_away

SECRET = "kept ~/to+itself"  # noqa: S105 - a made-up one
OIDC = Kafka(
    security_protocol="sasl_ssl",
    sasl_mechanism="OAUTHBEARER",
    sasl_token_provider="oidc",  # noqa: S106 - a name
    sasl_oidc_token_url="https://login.example.com/token",  # noqa: S106 - an address
    sasl_oidc_client_id="worker:1",
    sasl_oidc_client_secret=SECRET,
)
IAM = Kafka(sasl_mechanism="OAUTHBEARER", sasl_token_provider="aws_msk_iam")  # noqa: S106 - a name


def state(*, life_seconds: float = 100, requested_at: float = 0) -> TokenState:
    found = TokenState()
    found.take(LoginToken("abc", requested_at, life_seconds))
    return found


# --- when one is renewed ------------------------------------------------------------------------


def test_first_token_is_due_at_once() -> None:
    assert TokenState().is_due(0)
    assert TokenState().usable(0) is None


@pytest.mark.parametrize(("now", "is_due"), [(0, False), (79.9, False), (80, True), (100, True)])
def test_token_is_renewed_at_four_fifths_of_its_life(now: float, is_due: bool) -> None:  # noqa: FBT001
    assert state().is_due(now) is is_due


@pytest.mark.parametrize(("now", "is_usable"), [(0, True), (99.9, True), (100, False)])
def test_token_is_used_until_its_end(now: float, is_usable: bool) -> None:  # noqa: FBT001
    assert (state().usable(now) is not None) is is_usable


def test_failed_renewal_keeps_the_token_and_is_repeated_after_a_pause() -> None:
    tokens = state()
    tokens.fail("no answer", 80)
    assert tokens.usable(81) is not None
    assert tokens.error == "no answer"
    assert not tokens.is_due(80 + RETRY_SECONDS - 0.1)
    assert tokens.is_due(80 + RETRY_SECONDS)


def test_first_request_that_fails_is_repeated_after_a_pause_too() -> None:
    tokens = TokenState()
    tokens.fail("no answer", 10)
    assert [tokens.is_due(now) for now in (10, 14.9, 15)] == [False, False, True]


def test_new_token_ends_the_pause() -> None:
    tokens = state(life_seconds=1)
    tokens.fail("no answer", 1)
    tokens.take(LoginToken("next", 2, 1))
    assert tokens.is_due(2.9)


def test_refused_token_is_replaced_after_a_pause_and_used_until_then() -> None:
    tokens = state()
    refused = tokens.usable(10)
    assert refused is not None
    tokens.refuse(refused, 10)
    tokens.refuse(refused, 14)  # by another connection: it does not lengthen the pause
    assert tokens.usable(14.9) == refused
    assert [tokens.is_due(now) for now in (14.9, 15)] == [False, True]
    tokens.take(LoginToken("next", 15, 100))
    assert not tokens.is_due(16)


def test_refusal_of_an_older_token_is_no_reason_to_renew_the_present_one() -> None:
    tokens = state()
    tokens.refuse(LoginToken("older", 0, 100), 10)
    assert not tokens.is_due(50)


@pytest.mark.parametrize(
    ("session_ms", "seconds"), [(0, None), (1_800, None), (1_875, 1.5), (900_000, 720.0)]
)
def test_session_is_renewed_at_four_fifths_unless_it_is_too_short(
    session_ms: int, seconds: float | None
) -> None:
    assert relogin_seconds(session_ms) == seconds


# --- messages -----------------------------------------------------------------------------------


def test_login_message_is_that_of_the_rfc() -> None:
    assert login_message(LoginToken("abc", 0, 1)) == b"n,,\x01auth=Bearer abc\x01\x01"


def test_token_is_not_shown() -> None:
    assert "abc" not in repr(LoginToken("abc", 0, 1))
    assert "abc" not in repr(state())


def test_client_credentials_are_encoded_and_the_scope_is_optional() -> None:
    grant = {"grant_type": "client_credentials"}
    login = f"Basic {b64encode(b'worker%3A1:kept%20~%2Fto%2Bitself').decode()}"
    assert oidc_request(OIDC, SECRET) == (grant, login)
    scoped = replace(OIDC, sasl_oidc_scope="kafka")
    assert oidc_request(scoped, SECRET)[0] == grant | {"scope": "kafka"}


def test_refusal_by_a_broker_names_the_login() -> None:
    assert token_refusal(OIDC).startswith(
        "refuses the token that https://login.example.com/token has issued to client 'worker:1'; "
    )
    assert token_refusal(IAM).startswith("refuses the IAM login of the program's AWS identity; ")
    role = replace(IAM, sasl_aws_role_arn="arn:aws:iam::123456789012:role/r")
    assert "of role 'arn:aws:iam::123456789012:role/r'" in token_refusal(role)


# --- a token server's response ------------------------------------------------------------------


def response(**changes: object) -> bytes:
    document = {"access_token": "abc.DEF-1_~+/==", "token_type": "Bearer", "expires_in": 60}
    return orjson.dumps({name: it for name, it in (document | changes).items() if it is not None})


@pytest.mark.parametrize(
    ("expires_in", "life_seconds"),
    [(60, 60), (0.5, 0.5), ("3599", 3_599), (10**12, LIFE_SECONDS_MAX)],
)
def test_life_of_a_token_begins_with_its_request(expires_in: object, life_seconds: float) -> None:
    token = oidc_token(OIDC, 200, response(expires_in=expires_in), 7)
    assert token == LoginToken("abc.DEF-1_~+/==", 7, life_seconds)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            401,
            b'{"error": "invalid_client", "error_description": "not %b"}' % SECRET.encode(),
            "refuses client 'worker:1' (status 401, invalid_client): wrong client or secret; set ",
        ),
        (400, b'{"error": "invalid_client"}', "refuses client 'worker:1' (status 400, invalid_c"),
        (401, b"<html>", "refuses client 'worker:1' (status 401): wrong client or secret; set "),
        (400, b'{"error": "invalid_scope"}', "refuses the scope (status 400, invalid_scope); set "),
        (302, b"", "redirects (status 302), which no secret follows; set [kafka] sasl_oidc_token_"),
        (503, b"[]", "responds with status 503; is it well, is [kafka] sasl_oidc_token_url its "),
        (404, response(error=SECRET), "responds with status 404; is it well, "),
        (400, response(error=[SECRET]), "responds with status 400; is it well, "),
        (200, b"{", "responds with something other than a JSON object; is [kafka] sasl_oidc_tok"),
        (200, b'["abc"]', "responds with something other than a JSON object; is [kafka] "),
        (200, response(access_token=None), "responds with no access_token; let it issue bearer "),
        (200, response(access_token=1), "responds with an access_token that is no bearer token; "),
        (200, response(access_token=f"a{chr(1)}b"), "responds with an access_token that is no b"),
        (200, response(access_token=""), "responds with an access_token that is no bearer token"),
        (200, response(expires_in=None), "responds with no expires_in; let it state for how many "),
        (200, response(expires_in=0), "responds with an unusable expires_in; let it state "),
        (200, response(expires_in=True), "responds with an unusable expires_in; let it state "),
        (200, response(expires_in="soon"), "responds with an unusable expires_in; let it state "),
        (200, b"x" * (RESPONSE_BYTES_MAX + 1), "sends more than 262144 bytes; is [kafka] sasl_"),
    ],
)
def test_response_without_a_usable_token_is_explained_on_one_line_without_the_secret(
    status: int, body: bytes, expected: str
) -> None:
    with pytest.raises(SetupError) as caught:
        oidc_token(OIDC, status, body, 0)
    text = str(caught.value)
    assert text.startswith(f"token server https://login.example.com/token {expected}")
    assert "\n" not in text
    assert given_away({"the secret": SECRET, "the token": "abc.DEF"}, [text]) == []
