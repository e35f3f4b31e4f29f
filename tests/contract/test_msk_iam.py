"""Amazon MSK: the form of a token for a login by IAM, as AWS's own signers make it.

The facts are those of aws-msk-iam-sasl-signer-python 1.0: base64url, without padding, of a URL that
SigV4 has presigned for GET, whose signed query is an action and the parameters of the signature,
and to which the signer's name is added. The signature is computed here again, by the published
algorithm, without botocore.
"""

import asyncio
import hashlib
import hmac
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from botocore.credentials import Credentials, RefreshableCredentials

from stream_app import __version__
from stream_app.errors import SetupError
from stream_app.s3.iam_token import TOKEN_SECONDS, iam_token, presigned_token
from tests.chaos.harness import in_a_loop
from tests.contract.recorder import Answer, Recorder, answer, recorder
from tests.secrets import given_away

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # noqa: S105 - AWS's own example
SESSION_TOKEN = "FwoGZXIvYXdz+/=="  # noqa: S105 - a made-up one
REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/kafka"
SECONDS_MAX = 10.0


def decoded(token: str) -> str:
    assert "=" not in token
    return urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()


def signature(url: str, secret_key: str) -> str:
    """Return the signature of a presigned GET without content, by AWS's description of SigV4."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    _, date, region, service, end = query["X-Amz-Credential"].split("/")
    signed = sorted(
        (quote(name, safe=""), quote(value, safe=""))
        for name, value in query.items()
        if name not in {"X-Amz-Signature", "User-Agent"}
    )
    canonical = "\n".join(
        (
            *("GET", parts.path, "&".join(f"{name}={value}" for name, value in signed)),
            *(f"host:{parts.netloc}", "", "host", hashlib.sha256(b"").hexdigest()),
        )
    )
    scope = f"{date}/{region}/{service}/{end}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, end, text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


@pytest.mark.parametrize("session_token", [None, SESSION_TOKEN])
def test_token_is_a_presigned_url_whose_signature_is_right(session_token: str | None) -> None:
    token = presigned_token(Credentials(ACCESS_KEY, SECRET_KEY, session_token), REGION)
    url = decoded(token)
    parts = urlsplit(url)
    assert url.startswith(
        f"https://kafka.{REGION}.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-"
    )
    assert url.endswith(f"&User-Agent=stream-app%2F{__version__}")
    query = dict(parse_qsl(parts.query))
    assert len(query) == len(parts.query.split("&")) == (8 if session_token is None else 9)
    signed_at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - signed_at).total_seconds()) < 60
    day = query["X-Amz-Date"][:8]
    assert query["X-Amz-Credential"] == f"{ACCESS_KEY}/{day}/{REGION}/kafka-cluster/aws4_request"
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Expires"] == str(TOKEN_SECONDS) == "900"
    assert query["X-Amz-SignedHeaders"] == "host"
    assert query.get("X-Amz-Security-Token") == session_token
    assert query["X-Amz-Signature"] == signature(url, SECRET_KEY)
    assert given_away({"the secret key": SECRET_KEY}, [token, url]) == []


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No credentials, wherever AWS tools look for them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return monkeypatch


def own_keys(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def refusal(role_arn: str | None = None) -> str:
    with pytest.raises(SetupError) as caught:
        iam_token(REGION, role_arn, SECONDS_MAX)
    text = str(caught.value)
    assert "\n" not in text
    assert given_away({"the secret key": SECRET_KEY}, [text]) == []
    return text


def test_own_credentials_sign_a_token_for_a_quarter_of_an_hour(
    environment: pytest.MonkeyPatch,
) -> None:
    own_keys(environment)
    token, seconds = iam_token(REGION, None, SECONDS_MAX)
    assert seconds == 900
    assert f"={ACCESS_KEY}%2F" in decoded(token)


def test_missing_credentials_are_explained(environment: pytest.MonkeyPatch) -> None:
    del environment
    assert refusal().startswith("there are no AWS credentials for the login to Kafka; set AWS_ACC")


def test_half_of_a_key_is_explained(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    text = refusal()
    assert text.startswith("the AWS credentials cannot be used for the login to Kafka: Partial ")


def test_end_of_renewed_credentials_is_where_it_is_looked_for() -> None:
    ends_at = datetime.now(UTC) + timedelta(seconds=100)
    found = RefreshableCredentials("a", "s", "t", ends_at, dict, "of-a-test")
    assert found._expiry_time == ends_at


@asynccontextmanager
async def sts(environment: pytest.MonkeyPatch, response: Answer) -> AsyncIterator[Recorder]:
    own_keys(environment)
    async with recorder(response) as server:
        environment.setenv("AWS_ENDPOINT_URL_STS", server.endpoint_url)
        yield server


def issued(seconds: float) -> bytes:
    ends_at = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return answer(
        "200 OK",
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ISSUED</AccessKeyId>"
        f"<SecretAccessKey>of-issued</SecretAccessKey><SessionToken>{SESSION_TOKEN}</SessionToken>"
        f"<Expiration>{ends_at}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>",
        "text/xml",
    )


@pytest.mark.parametrize(("role_seconds", "token_seconds"), [(3_600, 900), (600, 600)])
@in_a_loop
async def test_role_signs_a_token_that_ends_no_later_than_its_credentials(
    environment: pytest.MonkeyPatch, role_seconds: float, token_seconds: float
) -> None:
    async with sts(environment, issued(role_seconds)) as server:
        token, seconds = await asyncio.to_thread(iam_token, REGION, ROLE, SECONDS_MAX)
        assert token_seconds - 60 < seconds <= token_seconds
        url = decoded(token)
        assert "=ISSUED%2F" in url
        assert f"X-Amz-Security-Token={quote(SESSION_TOKEN, safe='')}" in url
        assert dict(parse_qsl(urlsplit(url).query))["X-Amz-Signature"] == signature(
            url, "of-issued"
        )
        (request,) = server.requests
        assert f"/{REGION}/sts/aws4_request" in request.headers["authorization"]
        assert dict(parse_qsl(request.body.decode())) == {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleArn": ROLE,
            "RoleSessionName": "stream-app",
        }


@in_a_loop
async def test_credentials_that_have_ended_sign_nothing(environment: pytest.MonkeyPatch) -> None:
    async with sts(environment, issued(-1)):
        text = await asyncio.to_thread(refusal, ROLE)
        assert text.startswith("the AWS credentials for the login to Kafka have expired already; ")


@in_a_loop
async def test_role_that_may_not_be_assumed_is_named_with_the_reason(
    environment: pytest.MonkeyPatch,
) -> None:
    document = (
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not you</Message></Error>"
        "</ErrorResponse>"
    )
    async with sts(environment, answer("403 Forbidden", document, "text/xml")) as server:
        text = await asyncio.to_thread(refusal, ROLE)
        assert text.startswith(f"role {ROLE} cannot be used for the login to Kafka: ")
        assert "not you; let its trust policy allow sts:AssumeRole" in text
        assert len(server.requests) == 1
