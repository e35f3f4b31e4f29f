"""aiobotocore under our configuration, against a server of our own that records what it is sent.

`s3` relies on each of these: which headers carry the condition and the checksum, how many requests
one call makes, and which exception stands for which failure. Botocore has two kinds: `ClientError`
when S3 responded, `BotoCoreError` when it did not.
"""

import asyncio
import base64
import hashlib
from typing import Any

import botocore.exceptions
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from stream_app.config.settings import S3
from stream_app.embedded.process import HOST, free_ports
from stream_app.s3.storage import Storage
from tests.contract.recorder import (
    Answer,
    Request,
    answer,
    close,
    hang,
    recorder,
    refusal,
    reset,
)

ACCESS_KEY = "AKIAMADEUPMADEUPMADE"
SECRET_KEY = "made-up/secret+access+key"  # noqa: S105 - of nobody
BODY = b"the content"
CHECKSUM = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
OK = answer("200 OK", ETag='"the-etag"', x_amz_version_id="v1")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)


def client_of(storage: Storage) -> Any:
    """Return the botocore client for the `[s3]` table, which is there from the start."""
    return next(iter(storage.clients._clients.values())).client


def put(*answers: Answer, calls: int = 1) -> tuple[list[Request], list[Any]]:
    """Put the same object `calls` times; return the requests, and answers or exceptions."""

    async def scenario() -> tuple[list[Request], list[Any]]:
        async with (
            recorder(*answers) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            results = [await _put(client_of(storage)) for _ in range(calls)]
        return server.requests, results

    return asyncio.run(scenario())


async def _put(client: Any) -> Any:
    try:
        return await client.put_object(
            Bucket="my-bucket",
            Key="a/b.gz",
            Body=BODY,
            IfNoneMatch="*",
            ChecksumSHA256=CHECKSUM,
            Metadata={"lines": "27"},
        )
    except (BotoCoreError, ClientError) as error:
        _require_no_credentials_in(f"{error} {error!r}")
        return error


def _require_no_credentials_in(text: str) -> None:
    assert SECRET_KEY not in text
    assert ACCESS_KEY not in text


def test_condition_travels_as_if_none_match() -> None:
    (request,), _ = put(OK)
    assert request.headers["if-none-match"] == "*"
    assert "if-none-match" in request.headers["authorization"], "it is not signed"


def test_checksum_travels_as_a_header_and_not_behind_the_body() -> None:
    (request,), _ = put(OK)
    assert request.headers["x-amz-checksum-sha256"] == CHECKSUM
    assert request.body == BODY
    assert "trailer" not in " ".join(request.headers)
    assert "aws-chunked" not in request.headers.get("content-encoding", "")


def test_no_checksum_is_added_to_ours() -> None:
    (request,), _ = put(OK)
    sent = {name for name in request.headers if "checksum" in name or name == "content-md5"}
    assert sent == {"x-amz-checksum-sha256"}


def test_body_is_signed_by_its_hash() -> None:
    (request,), _ = put(OK)
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()


def test_bucket_is_in_the_path_of_an_own_endpoint() -> None:
    (request,), _ = put(OK)
    assert request.first_line == "PUT /my-bucket/a/b.gz HTTP/1.1"


def test_metadata_travels_as_headers() -> None:
    (request,), _ = put(OK)
    assert request.headers["x-amz-meta-lines"] == "27"


def test_secret_key_does_not_travel() -> None:
    (request,), _ = put(OK)
    assert SECRET_KEY not in str(request)


def test_answer_has_etag_with_its_quotes_and_version() -> None:
    _, (result,) = put(OK)
    assert (result["ETag"], result["VersionId"]) == ('"the-etag"', "v1")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("500 Internal Server Error", "InternalError"),
        ("503 Service Unavailable", "SlowDown"),
        ("409 Conflict", "ConditionalRequestConflict"),
        ("412 Precondition Failed", "PreconditionFailed"),
        ("400 Bad Request", "RequestTimeout"),
        ("403 Forbidden", "AccessDenied"),
    ],
)
def test_refusal_is_one_request_and_a_client_error(status: str, code: str) -> None:
    requests, (error,) = put(refusal(status, code))
    assert len(requests) == 1, "aiobotocore repeats by itself"
    assert isinstance(error, ClientError)
    assert error.response["Error"] == {"Code": code, "Message": "in words"}
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == int(status[:3])


def test_error_within_an_answer_200_is_a_client_error() -> None:
    requests, (error,) = put(refusal("200 OK", "InternalError"))
    assert len(requests) == 1
    assert type(error) is ClientError
    assert error.response["Error"]["Code"] == "InternalError"


@pytest.mark.parametrize(
    "body", ["<html>a proxy's page</html>", "no markup at all", "<Error><Code>Inter", ""]
)
def test_answer_500_without_s3s_xml_is_a_client_error_with_the_status(body: str) -> None:
    requests, (error,) = put(answer("500 Internal Server Error", body, "text/html"))
    assert len(requests) == 1
    assert type(error) is ClientError
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert error.response["Error"]["Code"] == "500"


def test_redirect_301_is_not_followed_by_botocore() -> None:
    # Its handler would ask HeadBucket, for which our policy has no right; `clients` follows.
    redirect = refusal(
        "301 Moved Permanently", "PermanentRedirect", x_amz_bucket_region="eu-west-1"
    )
    requests, (error,) = put(redirect)
    regions = [request.headers["authorization"].split("/")[2] for request in requests]
    assert regions == ["us-east-1"]
    assert type(error) is ClientError
    assert error.response["Error"]["Code"] == "PermanentRedirect"
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 301


def test_reset_within_the_answer_is_connection_closed() -> None:
    requests, (error,) = put(reset)
    assert len(requests) == 1
    assert type(error) is botocore.exceptions.ConnectionClosedError


def test_close_without_an_answer_is_repeated_once_by_aiohttp() -> None:
    # So a put may reach S3 twice in one call: the condition turns the second into a 412.
    requests, (result,) = put(close, OK)
    assert [(it.first_line, it.body) for it in requests] == [
        ("PUT /my-bucket/a/b.gz HTTP/1.1", BODY)
    ] * 2
    assert result["ETag"] == '"the-etag"'


def test_second_close_without_an_answer_is_connection_closed() -> None:
    requests, (error,) = put(close)
    assert len(requests) == 2
    assert type(error) is botocore.exceptions.ConnectionClosedError


def test_connection_is_reused_for_the_next_call() -> None:
    connections: set[Any] = set()

    async def scenario() -> None:
        async with recorder(OK) as server:
            handle = server.handle

            async def counted(reader: Any, writer: Any) -> None:
                connections.add(writer)
                await handle(reader, writer)

            server.handle = counted  # type: ignore[method-assign] # counts, and passes on
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                for _ in range(3):
                    await _put(client_of(storage))

    asyncio.run(scenario())
    assert len(connections) == 1


def test_refused_connection_is_endpoint_connection_error() -> None:
    async def scenario() -> Any:
        port = free_ports(1)[0]
        async with Storage(S3(endpoint_url=f"http://{HOST}:{port}")) as storage:
            return await _put(client_of(storage))

    assert type(asyncio.run(scenario())) is botocore.exceptions.EndpointConnectionError


def test_answer_that_does_not_come_is_read_timeout() -> None:
    # Our own read timeout is half a minute, so this client is given another.
    async def scenario() -> tuple[list[Request], Any]:
        config = AioConfig(read_timeout=2, retries={"total_max_attempts": 1})
        async with (
            recorder(hang) as server,
            get_session().create_client(
                "s3", region_name="us-east-1", endpoint_url=server.endpoint_url, config=config
            ) as client,
        ):
            return server.requests, await _put(client)

    requests, error = asyncio.run(scenario())
    assert len(requests) == 1
    assert type(error) is botocore.exceptions.ReadTimeoutError


def test_every_failure_of_the_network_is_a_botocore_error() -> None:
    for kind in ("ConnectionClosedError", "EndpointConnectionError", "ReadTimeoutError"):
        assert issubclass(getattr(botocore.exceptions, kind), BotoCoreError)


def test_configured_timeouts_and_attempts_reach_the_client() -> None:
    async def scenario() -> Any:
        async with Storage(S3(endpoint_url="http://127.0.0.1:1")) as storage:
            return client_of(storage).meta.config

    config = asyncio.run(scenario())
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (5, 30, 64)
    assert config.connector_args["keepalive_timeout"] == 10
    assert config.retries["total_max_attempts"] == 1
    assert config.request_checksum_calculation == "when_required"


def test_missing_credentials_are_no_credentials_error_before_any_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "nowhere")
    requests, (error,) = put(OK)
    assert requests == []
    assert type(error) is botocore.exceptions.NoCredentialsError


def test_argument_that_botocore_refuses_is_param_validation_error() -> None:
    async def scenario() -> None:
        async with Storage(S3(endpoint_url="http://127.0.0.1:1")) as storage:
            await client_of(storage).put_object(Bucket="a bucket", Key="k", Body=b"")

    with pytest.raises(botocore.exceptions.ParamValidationError):
        asyncio.run(scenario())
