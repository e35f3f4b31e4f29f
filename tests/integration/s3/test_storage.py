"""`Storage` against a real S3 server: what is in the bucket afterwards, which error each fault is.

What a real server does not do on demand is answered by a server of our own.
"""

import asyncio
import base64
import gzip
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from stream_app.config.settings import S3, Destination
from stream_app.core.receipt import Stored
from stream_app.embedded.process import HOST, free_ports
from stream_app.embedded.servers import S3Server
from stream_app.errors import PermanentError, SetupError, TransientError
from stream_app.s3.body import HASH_IN_LOOP_BYTES_MAX
from stream_app.s3.storage import Storage
from tests.contract.recorder import Answer, Request, answer, close, recorder, refusal, reset

LINES = b'{"id":1}\n{"id":2}\n'
CONTENT = gzip.compress(LINES, compresslevel=1, mtime=0)
KEY = "test/2026/11/24/16/2026-11-24-16-31-02-0123.gz"

_T = TypeVar("_T")


@pytest.fixture(autouse=True)
def credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


def client_of(storage: Storage) -> Any:
    """Return the botocore client for the `[s3]` table, which is there from the start."""
    return next(iter(storage.clients._clients.values())).client


def using(endpoint_url: str, work: Callable[[Storage], Awaitable[_T]]) -> _T:
    """Do something with a storage that is opened for it."""

    async def opened() -> _T:
        async with Storage(S3(endpoint_url=endpoint_url)) as storage:
            return await work(storage)

    return asyncio.run(opened())


def put(
    endpoint_url: str, bucket: str, content: bytes = CONTENT, *, lines: int = 2, size: int = 18
) -> Stored:
    return using(
        endpoint_url,
        lambda storage: storage.put(Destination("d", bucket), KEY, content, lines=lines, size=size),
    )


def look(endpoint_url: str, bucket: str) -> tuple[bytes, dict[str, Any]]:
    """Return the object's bytes and its head."""

    async def get(storage: Storage) -> tuple[bytes, dict[str, Any]]:
        answer = await client_of(storage).get_object(Bucket=bucket, Key=KEY)
        async with answer["Body"] as body:
            return await body.read(), answer

    return using(endpoint_url, get)


def place(s3: S3Server, bucket: str, content: bytes, **arguments: Any) -> None:
    """Write an object as another program would."""
    using(
        s3.endpoint_url,
        lambda storage: client_of(storage).put_object(
            Bucket=bucket, Key=KEY, Body=content, **arguments
        ),
    )


def test_new_object_stands_there_with_its_bytes(s3: S3Server, bucket: str) -> None:
    began = int(time.time())
    result = put(s3.endpoint_url, bucket)
    content, _ = look(s3.endpoint_url, bucket)
    assert content == CONTENT
    assert result.stored_at is not None
    assert began <= result.stored_at <= time.time()
    assert result == Stored(
        size=len(CONTENT),
        etag=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
        version_id=None,
        checksum=base64.b64encode(hashlib.sha256(CONTENT).digest()).decode(),
        already_existed=False,
        stored_at=result.stored_at,
    )


def test_new_object_has_its_type_and_counts(s3: S3Server, bucket: str) -> None:
    put(s3.endpoint_url, bucket, lines=2, size=len(LINES))
    _, answer = look(s3.endpoint_url, bucket)
    assert answer["ContentType"] == "application/gzip"
    assert "ContentEncoding" not in answer
    assert answer["Metadata"] == {"lines": "2", "uncompressed-size": str(len(LINES))}


def test_large_object_is_hashed_and_stored_as_a_small_one(s3: S3Server, bucket: str) -> None:
    content = b"x" * (HASH_IN_LOOP_BYTES_MAX + 1)
    result = put(s3.endpoint_url, bucket, content)
    assert result.checksum == base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert look(s3.endpoint_url, bucket)[0] == content


def test_same_object_again_already_existed(s3: S3Server, bucket: str) -> None:
    first = put(s3.endpoint_url, bucket)
    second = put(s3.endpoint_url, bucket)
    assert (first.already_existed, second.already_existed) == (False, True)
    assert (second.size, second.etag, second.checksum) == (first.size, first.etag, first.checksum)


def test_same_lines_from_another_compressor_already_existed(s3: S3Server, bucket: str) -> None:
    other = gzip.compress(LINES, compresslevel=9, mtime=1)
    assert other != CONTENT
    put(s3.endpoint_url, bucket, other)
    found = put(s3.endpoint_url, bucket)
    assert found.already_existed
    assert look(s3.endpoint_url, bucket)[0] == other
    assert found.size == len(other), "the receipt describes what is there"
    assert found.checksum in (None, base64.b64encode(hashlib.sha256(other).digest()).decode())


@pytest.mark.parametrize(
    ("content", "metadata"),
    [
        (b"", {"lines": "2", "uncompressed-size": "18"}),  # a put that died in its body
        (b"something else", {}),
        (CONTENT + b"more", {"lines": "3", "uncompressed-size": "27"}),
        (CONTENT[:-1] + b"\xff", {}),  # as long, and with a checksum of its own
    ],
)
def test_other_object_under_the_key_is_permanent_and_stays(
    s3: S3Server, bucket: str, content: bytes, metadata: dict[str, str]
) -> None:
    checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
    place(s3, bucket, content, Metadata=metadata, ChecksumSHA256=checksum)
    with pytest.raises(PermanentError, match=f"{bucket}/{KEY} exists with .*remove it") as refusal:
        put(s3.endpoint_url, bucket)
    assert refusal.value.code == "ObjectDiffers"
    assert look(s3.endpoint_url, bucket)[0] == content


def test_empty_object_without_a_checksum_is_permanent(s3: S3Server, bucket: str) -> None:
    # As a put of another program leaves it that died within its body.
    place(s3, bucket, b"", Metadata={"lines": "2", "uncompressed-size": "18"})
    with pytest.raises(PermanentError, match="exists with 0 bytes"):
        put(s3.endpoint_url, bucket)


def test_of_two_at_once_one_finds_the_other(s3: S3Server, bucket: str) -> None:
    async def both(storage: Storage) -> list[Stored]:
        puts = [
            storage.put(Destination("d", bucket), KEY, CONTENT, lines=2, size=18) for _ in range(2)
        ]
        return await asyncio.gather(*puts)

    results = using(s3.endpoint_url, both)
    assert sorted(it.already_existed for it in results) == [False, True]


def test_missing_bucket_is_permanent(s3: S3Server, bucket: str) -> None:
    with pytest.raises(PermanentError) as refusal:
        put(s3.endpoint_url, f"{bucket}-not")
    assert refusal.value.code == "NoSuchBucket"


def test_bucket_that_no_server_can_have_is_permanent(s3: S3Server) -> None:
    with pytest.raises(PermanentError) as refusal:
        put(s3.endpoint_url, "a bucket")
    assert refusal.value.code == "InvalidRequest"


def test_refused_port_is_transient() -> None:
    with pytest.raises(TransientError) as failure:
        put(endpoint_url := f"http://{HOST}:{free_ports(1)[0]}", "my-bucket")
    assert failure.value.code == "EndpointConnectionError"
    # Windows that were not tried have this error too: it names the server, and no window's key.
    assert failure.value.message == f'Could not connect to the endpoint URL: "{endpoint_url}"'


def test_unknown_host_name_is_transient() -> None:
    with pytest.raises(TransientError) as failure:
        put("http://nobody.invalid:80", "my-bucket")
    assert failure.value.code == "EndpointConnectionError"


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_reported_before_the_start(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "wrong")
    with pytest.raises(SetupError, match="does not accept our credentials") as refusal:
        using(
            s3.endpoint_url, lambda storage: storage.require_credentials(Destination("d", bucket))
        )
    assert s3.endpoint_url in str(refusal.value)
    assert "AWS_ACCESS_KEY_ID" in str(refusal.value)
    assert s3.secret_key not in str(refusal.value)


def test_missing_credentials_are_reported_before_the_start(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(SetupError, match="NoCredentials"):
        using(
            s3.endpoint_url, lambda storage: storage.require_credentials(Destination("d", bucket))
        )


def test_right_credentials_pass_also_for_a_bucket_that_is_missing(
    s3: S3Server, bucket: str
) -> None:
    for name in (bucket, f"{bucket}-not"):
        using(
            s3.endpoint_url,
            lambda storage, name=name: storage.require_credentials(Destination("d", name)),
        )


def test_server_that_is_away_is_left_to_the_deliveries() -> None:
    using(
        f"http://{HOST}:{free_ports(1)[0]}",
        lambda storage: storage.require_credentials(Destination("d", "my-bucket")),
    )


# --- responses that a real server does not return on demand --------------------------------------


EXISTS = refusal("412 Precondition Failed", "PreconditionFailed")


def put_at(*answers: Answer) -> tuple[Stored, list[Request]]:
    """Put against a server that gives these answers; return its requests too."""

    async def scenario() -> tuple[Stored, list[Request]]:
        async with (
            recorder(*answers) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            result = await storage.put(
                Destination("d", "my-bucket"), KEY, CONTENT, lines=2, size=len(LINES)
            )
        return result, server.requests

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (refusal("500 Internal Server Error", "InternalError"), "InternalError"),
        (refusal("503 Service Unavailable", "SlowDown"), "SlowDown"),
        (refusal("409 Conflict", "ConditionalRequestConflict"), "ConditionalRequestConflict"),
        (refusal("400 Bad Request", "RequestTimeout"), "RequestTimeout"),
        (refusal("400 Bad Request", "ExpiredToken"), "ExpiredToken"),
        (refusal("200 OK", "InternalError"), "InternalError"),
        (answer("502 Bad Gateway", "<html>a proxy</html>", "text/html"), "502"),
        (reset, "ConnectionClosedError"),
        (close, "ConnectionClosedError"),
    ],
)
def test_fault_that_time_heals_is_transient(response: Answer, code: str) -> None:
    with pytest.raises(TransientError) as failure:
        put_at(response)
    assert failure.value.code == code


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("301 Moved Permanently", "PermanentRedirect"),
        ("403 Forbidden", "AccessDenied"),
        ("400 Bad Request", "AccessControlListNotSupported"),
        ("404 Not Found", "NoSuchBucket"),
    ],
)
def test_refusal_that_somebody_must_act_on_is_permanent(status: str, code: str) -> None:
    with pytest.raises(PermanentError) as failure:
        put_at(refusal(status, code, x_amz_bucket_region="eu-west-1"))
    assert (failure.value.code, failure.value.message) == (code, "in words")


def test_object_that_may_not_be_looked_at_already_existed() -> None:
    # The documented policy allows no HEAD: S3 returns 403, and by its key it is the same object.
    result, requests = put_at(EXISTS, answer("403 Forbidden"))
    assert [it.first_line.split()[0] for it in requests] == ["PUT", "HEAD"]
    assert (result.already_existed, result.etag) == (True, None)


@pytest.mark.parametrize("length", [b"", b"Transfer-Encoding: chunked\r\n"])
def test_head_without_a_content_length_is_no_difference(length: bytes) -> None:
    # A proxy before S3 that compresses or streams leaves it out.
    head = (
        b'HTTP/1.1 200 OK\r\nETag: W/"abc"\r\nx-amz-meta-lines: 2\r\n'
        b"x-amz-meta-uncompressed-size: %d\r\n"
        b"Last-Modified: Tue, 24 Nov 2026 16:32:04 GMT\r\n%b\r\n" % (len(LINES), length)
    )
    result, _ = put_at(EXISTS, head)
    sha256 = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert result == Stored(
        *(len(CONTENT), "abc", None, sha256), already_existed=True, stored_at=1_795_537_924
    )


def test_object_that_is_gone_when_looked_at_is_transient() -> None:
    with pytest.raises(TransientError, match="is gone; writing it again") as failure:
        put_at(EXISTS, answer("404 Not Found"))
    assert failure.value.code == "ObjectVanished"


def test_object_that_cannot_be_looked_at_now_is_transient() -> None:
    with pytest.raises(TransientError):
        put_at(EXISTS, answer("503 Service Unavailable"))


def test_without_a_condition_the_first_object_is_kept(s3: S3Server, bucket: str) -> None:
    unconditional = Destination("d", bucket, conditional_writes=False)

    async def twice(storage: Storage) -> list[bool]:
        puts = [await storage.put(unconditional, KEY, CONTENT, lines=2, size=18) for _ in range(2)]
        return [it.already_existed for it in puts]

    assert using(s3.endpoint_url, twice) == [False, True]
