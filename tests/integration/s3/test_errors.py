"""Each way in which S3 fails: its code, how it is treated, and that the object comes once.

    attempt 1 ─> a server that fails as the test sets it      TransientError or PermanentError
    attempt 2 ─> the same one, which now relays to the real one one object with the right bytes

The server in between belongs to the test; what stands in the bucket is the real server's word.

A put whose connection dies before any answer is repeated once by aiohttp within the same attempt
(`tests/contract/test_aiobotocore.py`): so these faults come twice before the attempt fails.
"""

import asyncio
import gzip
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from stream_app.config.settings import S3, Destination
from stream_app.core.receipt import Stored
from stream_app.embedded.process import HOST, free_ports
from stream_app.embedded.servers import S3Server
from stream_app.errors import DeliveryError, PermanentError, TransientError
from stream_app.s3.body import MULTIPART_BYTES
from stream_app.s3.storage import Storage
from tests.contract.recorder import (
    Answer,
    Cut,
    Relay,
    Request,
    Rule,
    answer,
    close,
    hang,
    recorder,
    refusal,
    reset,
)
from tests.least_privilege import classify
from tests.s3_client import s3_client

LINES = b'{"id":1}\n{"id":2}\n'
CONTENT = gzip.compress(LINES, compresslevel=1, mtime=0)
LARGE = random.Random(7).randbytes(4 * 1024 * 1024)
"""More than the sockets on its way can hold."""
IN_PARTS = random.Random(8).randbytes(MULTIPART_BYTES + 1)
KEY = "test/2026/11/24/16/2026-11-24-16-31-02-0123.gz"
PATIENCE_SECONDS = 0.5

CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUUGbOEbR/dbOkO5S
63eQ1Jm4mwUnnRIH6DS3fM41Q3mhRANCAAQXv4Fb5XnKPrJLrnGkKcAavOm18ZJq
QBywqC1vrCVki3i7x5kvIGX9Fq2OnLB49KILzt6Dp7p4dZI5F6cavtNr
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBejCCASCgAwIBAgIBATAKBggqhkjOPQQDAjAbMRkwFwYDVQQDDBBzdHJlYW0t
YXBwLXRlc3RzMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAbMRkw
FwYDVQQDDBBzdHJlYW0tYXBwLXRlc3RzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAEF7+BW+V5yj6yS65xpCnAGrzptfGSakAcsKgtb6wlZIt4u8eZLyBl/Ratjpyw
ePSiC87eg6e6eHWSORenGr7Ta6NTMFEwDwYDVR0RBAgwBocEfwAAATAPBgNVHRMB
Af8EBTADAQH/MA4GA1UdDwEB/wQEAwIChDAdBgNVHQ4EFgQUTmy65XDeCm1RSmyt
+9On+lzheO4wCgYIKoZIzj0EAwIDSAAwRQIhAPLU/owah09WcJXI39YpE/vf3+ZR
/T89NYAAvdpB9iJbAiAS4kPfJTOWstqJgXjUBknNzMmlqVrAnaQ9oYX1s4u3EQ==
-----END CERTIFICATE-----
"""
"""Self-signed, for 127.0.0.1, until 2120."""

_T = TypeVar("_T")


@pytest.fixture(autouse=True)
def credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


@dataclass
class Results:
    """Results of attempts."""

    errors: list[DeliveryError]
    """Errors of all attempts but the last one."""
    stored: Stored
    requests: list[Request] = field(default_factory=list)

    @property
    def error(self) -> DeliveryError:
        """The only error."""
        (error,) = self.errors
        return error


async def attempt(
    storage: Storage, destination: Destination, content: bytes = CONTENT
) -> Stored | DeliveryError:
    try:
        return await storage.put(destination, KEY, content, lines=2, size=len(LINES))
    except DeliveryError as error:
        return error


async def attempts(
    storage: Storage, destination: Destination, failures: int, content: bytes = CONTENT
) -> Results:
    """Put once more than there are to be failures; the last attempt has to succeed."""
    return outcome([await attempt(storage, destination, content) for _ in range(failures + 1)])


def outcome(
    results: list[Stored | DeliveryError], requests: list[Request] | None = None
) -> Results:
    *errors, stored = results
    assert isinstance(stored, Stored), results
    assert all(isinstance(it, DeliveryError) for it in errors), results
    return Results([it for it in errors if isinstance(it, DeliveryError)], stored, requests or [])


def put_through(
    s3: S3Server,
    bucket: str,
    *faults: Answer,
    failures: int = 1,
    content: bytes = CONTENT,
) -> Results:
    """Put at a server that has these faults first: `failures` attempts fail, the next succeeds."""

    async def scenario() -> Results:
        async with (
            recorder(*faults, Relay(s3.port)) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            result = await attempts(storage, Destination("d", bucket), failures, content)
        result.requests = server.requests
        return result

    return asyncio.run(scenario())


def put_unanswered(s3: S3Server, bucket: str, fault: Answer) -> Results:
    """Put at a server that has this fault until one attempt has run out of patience.

    The next attempt has the usual patience: a loaded machine may need seconds for a success.
    """

    async def scenario() -> Results:
        results = []
        async with (
            recorder(rule=lambda _: Relay(s3.port) if results else fault) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            usual = storage.clients.response_seconds_max
            for seconds in (PATIENCE_SECONDS, usual):
                storage.clients.response_seconds_max = seconds
                results.append(await attempt(storage, Destination("d", bucket)))
        return outcome(results, server.requests)

    return asyncio.run(scenario())


def put_by_rule(
    rule: Rule,
    *destinations: Destination,
    failures: int = 1,
    content: bytes = CONTENT,
    s3: S3 | None = None,
) -> Results:
    """Put at a server with this rule: `failures` times, and then with success.

    The n-th attempt is for the n-th destination, the last one from then on.
    """

    async def scenario() -> Results:
        async with recorder(rule=rule) as server:
            with pytest.MonkeyPatch.context() as patched:
                # So settings without an endpoint mean AWS, and the requests come here.
                patched.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
                async with Storage(s3 or S3(endpoint_url=server.endpoint_url)) as storage:
                    results = [
                        await attempt(
                            storage, destinations[min(it, len(destinations) - 1)], content
                        )
                        for it in range(failures + 1)
                    ]
        return outcome(results, server.requests)

    return asyncio.run(scenario())


def failing(s3: S3Server, operation: str, *faults: Answer) -> Rule:
    """Return a rule by which the first requests for an operation have these faults."""
    left = list(faults)

    def rule(request: Request) -> Answer:
        if left and operations([request]) == [operation]:
            return left.pop(0)
        return Relay(s3.port)

    return rule


def operations(requests: list[Request]) -> list[str]:
    return [classify(it)[0] for it in requests]


def contents(s3: S3Server, bucket: str) -> dict[str, bytes]:
    with s3_client(s3) as client:
        listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {it["Key"]: s3.read(bucket, it["Key"]) for it in listed}


def delivered_once(s3: S3Server, bucket: str, result: Results, content: bytes = CONTENT) -> None:
    """Fail unless one object stands there, whose bytes the last attempt has written itself."""
    assert contents(s3, bucket) == {KEY: content}
    assert not result.stored.already_existed
    assert unfinished(s3, bucket) == 0


def unfinished(s3: S3Server, bucket: str) -> int:
    """How many uploads in parts are neither completed nor aborted."""
    with s3_client(s3) as client:
        return len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


# --- transient: by the response -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("500 Internal Server Error", "InternalError", "We encountered an internal error."),
        ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
        ("503 Service Unavailable", "ServiceUnavailable", "Service is unable to handle request."),
        ("409 Conflict", "ConditionalRequestConflict", "The conditional request cannot succeed."),
        ("409 Conflict", "OperationAborted", "A conflicting operation is in progress."),
        ("400 Bad Request", "RequestTimeout", "Your socket connection was not read from."),
        ("403 Forbidden", "RequestTimeTooSkewed", "The difference is too large."),
        ("400 Bad Request", "ExpiredToken", "The provided token has expired."),
        ("400 Bad Request", "BadDigest", "The checksum did not match."),
        ("400 Bad Request", "IncompleteBody", "You did not provide the number of bytes."),
        ("200 OK", "InternalError", "We encountered an internal error."),
        ("200 OK", "SlowDown", "Please reduce your request rate."),
    ],
    ids=lambda text: text.partition(" ")[0],
)
def test_transient_answer_is_named_and_the_next_attempt_delivers_once(
    s3: S3Server, bucket: str, status: str, code: str, words: str
) -> None:
    result = put_through(s3, bucket, refusal(status, code, words))
    assert type(result.error) is TransientError
    assert (result.error.code, result.error.message) == (code, words)
    delivered_once(s3, bucket, result)
    assert len(result.requests) == 2, "something repeats by itself"


def test_page_of_a_proxy_is_transient_and_named_by_its_status(s3: S3Server, bucket: str) -> None:
    page = "<html><body><h1>504 Gateway Time-out</h1></body></html>"
    result = put_through(s3, bucket, answer("504 Gateway Timeout", page, "text/html"))
    assert type(result.error) is TransientError
    assert result.error.code == "504"
    delivered_once(s3, bucket, result)


def test_many_faults_in_a_row_end_in_one_object(s3: S3Server, bucket: str) -> None:
    slow_down = refusal("503 Slow Down", "SlowDown")
    lost = Relay(s3.port, is_lost=True)
    result = put_through(
        s3, bucket, slow_down, reset, close, close, slow_down, lost, lost, failures=5
    )
    assert [type(it) for it in result.errors] == [TransientError] * 5
    assert contents(s3, bucket) == {KEY: CONTENT}
    assert result.stored.already_existed


# --- transient: no answer -------------------------------------------------------------------------


def test_refused_connection_is_transient_and_delivers_when_the_server_is_up(
    s3: S3Server, bucket: str
) -> None:
    (port,) = free_ports(1)
    destination = Destination("d", bucket)

    async def scenario() -> tuple[Stored | DeliveryError, Results]:
        async with Storage(S3(endpoint_url=f"http://{HOST}:{port}")) as storage:
            refused = await attempt(storage, destination)
            async with recorder(Relay(s3.port), port=port):
                return refused, await attempts(storage, destination, 0)

    refused, result = asyncio.run(scenario())
    assert type(refused) is TransientError
    assert refused.code == "EndpointConnectionError"
    delivered_once(s3, bucket, result)


@pytest.mark.parametrize("body_bytes", [0, len(LARGE) // 2])
def test_reset_in_the_middle_of_the_request_is_transient_and_leaves_nothing(
    s3: S3Server, bucket: str, body_bytes: int
) -> None:
    cut = Cut(body_bytes, s3.port)
    result = put_through(s3, bucket, cut, cut, content=LARGE)
    assert type(result.error) is TransientError
    assert result.error.code in {"ConnectionClosedError", "EndpointConnectionError"}
    # The server saw the head and as much of the body: had it stored that, the next put would fail.
    delivered_once(s3, bucket, result, LARGE)


def test_reset_in_the_middle_of_the_answer_is_transient(s3: S3Server, bucket: str) -> None:
    result = put_through(s3, bucket, reset)
    assert type(result.error) is TransientError
    assert result.error.code == "ConnectionClosedError"
    delivered_once(s3, bucket, result)


def test_connection_that_was_idle_too_long_is_transient(s3: S3Server, bucket: str) -> None:
    result = put_through(s3, bucket, close, close)
    assert type(result.error) is TransientError
    assert result.error.code == "ConnectionClosedError"
    delivered_once(s3, bucket, result)


def test_server_that_takes_the_request_and_hangs_is_transient(s3: S3Server, bucket: str) -> None:
    result = put_unanswered(s3, bucket, hang)
    assert type(result.error) is TransientError
    assert (result.error.code, result.error.message) == ("TimeoutError", "no response within 0.5 s")
    delivered_once(s3, bucket, result)


def test_server_that_hangs_within_its_answer_is_transient(s3: S3Server, bucket: str) -> None:
    async def begin_and_hang(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 100\r\n\r\n<Error>")
        await writer.drain()
        await hang(writer)

    result = put_unanswered(s3, bucket, begin_and_hang)
    assert type(result.error) is TransientError
    assert result.error.code == "TimeoutError"
    delivered_once(s3, bucket, result)


def test_server_that_accepts_and_reads_nothing_is_transient() -> None:
    async def scenario() -> Stored | DeliveryError:
        # The kernel accepts, and no program ever reads.
        with socket.create_server((HOST, 0)) as listening:
            url = f"http://{HOST}:{listening.getsockname()[1]}"
            async with Storage(S3(endpoint_url=url), response_seconds_max=PATIENCE_SECONDS) as it:
                return await attempt(it, Destination("d", "my-bucket"))

    error = asyncio.run(scenario())
    assert type(error) is TransientError
    assert error.code == "TimeoutError"


def test_lost_answer_after_success_is_transient_and_the_object_is_found(
    s3: S3Server, bucket: str
) -> None:
    lost = Relay(s3.port, is_lost=True)
    result = put_through(s3, bucket, lost, lost)
    assert type(result.error) is TransientError
    assert result.error.code == "ConnectionClosedError"
    assert contents(s3, bucket) == {KEY: CONTENT}
    assert result.stored.already_existed
    assert [it.method for it in result.requests] == ["PUT", "PUT", "PUT", "HEAD"]


def test_lost_answer_that_aiohttp_asks_for_again_finds_the_object_at_once(
    s3: S3Server, bucket: str
) -> None:
    result = put_through(s3, bucket, Relay(s3.port, is_lost=True), failures=0)
    assert contents(s3, bucket) == {KEY: CONTENT}
    assert result.stored.already_existed
    assert [it.method for it in result.requests] == ["PUT", "PUT", "HEAD"]


def test_answer_that_says_exists_within_200_finds_the_object(s3: S3Server, bucket: str) -> None:
    # S3 may have sent the head before it knows.
    result = put_through(s3, bucket, failures=0)
    body = "<?xml version='1.0'?>\n\n  <Error><Code>PreconditionFailed</Code></Error>"

    async def again() -> Stored | DeliveryError:
        async with (
            recorder(answer("200 OK", body), Relay(s3.port)) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            return await attempt(storage, Destination("d", bucket))

    found = asyncio.run(again())
    assert isinstance(found, Stored)
    assert (found.already_existed, found.etag) == (True, result.stored.etag)


# --- transient: TLS -------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    file = tmp_path / "certificate.pem"
    file.write_text(CERTIFICATE, "ascii")
    return file


def over_tls(work: Callable[[str, ssl.SSLContext], Awaitable[_T]], *answers: Answer) -> _T:
    """Do something with a server that uses TLS, at first without a certificate."""

    async def scenario() -> _T:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        async with recorder(*answers, tls=context) as server:
            return await work(server.endpoint_url, context)

    return asyncio.run(scenario())


def test_tls_handshake_that_fails_is_transient_and_delivers_when_it_is_fixed(
    s3: S3Server, bucket: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    destination = Destination("d", bucket)

    async def work(url: str, context: ssl.SSLContext) -> tuple[Stored | DeliveryError, Results]:
        async with Storage(S3(endpoint_url=url)) as storage:
            failed = await attempt(storage, destination)
            context.load_cert_chain(certificate)
            return failed, await attempts(storage, destination, 0)

    failed, result = over_tls(work, Relay(s3.port))
    assert type(failed) is TransientError
    assert failed.code in {"EndpointConnectionError", "SSLError"}
    delivered_once(s3, bucket, result)


def test_tls_certificate_of_an_unknown_authority_is_transient(
    s3: S3Server, bucket: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    destination = Destination("d", bucket)

    async def work(url: str, context: ssl.SSLContext) -> tuple[Stored | DeliveryError, Results]:
        context.load_cert_chain(certificate)
        async with Storage(S3(endpoint_url=url)) as storage:
            failed = await attempt(storage, destination)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        async with Storage(S3(endpoint_url=url)) as storage:
            return failed, await attempts(storage, destination, 0)

    failed, result = over_tls(work, Relay(s3.port))
    assert type(failed) is TransientError
    assert failed.code == "SSLError"
    assert "certificate" in failed.message.lower()
    delivered_once(s3, bucket, result)


def test_endpoint_that_speaks_no_tls_is_transient() -> None:
    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer("400 Bad Request"))
        await writer.drain()
        writer.close()

    async def scenario() -> Stored | DeliveryError:
        async with await asyncio.start_server(respond, HOST, 0) as server:
            url = f"https://{HOST}:{server.sockets[0].getsockname()[1]}"
            async with Storage(S3(endpoint_url=url)) as storage:
                return await attempt(storage, Destination("d", "my-bucket"))

    error = asyncio.run(scenario())
    assert type(error) is TransientError
    assert error.code == "SSLError"
    assert "WRONG_VERSION_NUMBER" in error.message


# --- permanent: delivered after an operator has acted ---------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("403 Forbidden", "AccessDenied", "Access Denied"),
        ("403 Forbidden", "AllAccessDisabled", "All access to this object has been disabled"),
        ("403 Forbidden", "InvalidAccessKeyId", "The access key does not exist in our records."),
        ("404 Not Found", "NoSuchBucket", "The specified bucket does not exist"),
        ("400 Bad Request", "AccessControlListNotSupported", "The bucket does not allow ACLs"),
        ("400 Bad Request", "InvalidStorageClass", "The storage class is not valid"),
        ("400 Bad Request", "KMS.NotFoundException", "Key does not exist"),
        ("405 Method Not Allowed", "MethodNotAllowed", "Not allowed against this resource."),
    ],
    ids=lambda text: text.partition(" ")[0],
)
def test_permanent_answer_is_named_and_delivers_once_when_somebody_has_acted(
    s3: S3Server, bucket: str, status: str, code: str, words: str
) -> None:
    result = put_through(s3, bucket, refusal(status, code, words))
    assert type(result.error) is PermanentError
    assert (result.error.code, result.error.message) == (code, words)
    delivered_once(s3, bucket, result)


def test_bucket_that_is_missing_is_permanent_and_delivers_when_it_is_made(
    s3: S3Server, bucket: str
) -> None:
    destination = Destination("d", f"{bucket}-later")

    async def scenario() -> tuple[Stored | DeliveryError, Results]:
        async with Storage(S3(endpoint_url=s3.endpoint_url)) as storage:
            missing = await attempt(storage, destination)
            await asyncio.to_thread(s3.create_bucket, destination.bucket)
            return missing, await attempts(storage, destination, 0)

    missing, result = asyncio.run(scenario())
    assert type(missing) is PermanentError
    assert missing.code == "NoSuchBucket"
    delivered_once(s3, destination.bucket, result)


# --- permanent, or resolved by itself: another region --------------------------------------------

ELSEWHERE = "eu-west-1"


@dataclass(frozen=True)
class Regional:
    """S3 as it responds for a bucket in `ELSEWHERE` to requests in another region."""

    port: int
    wrong: bytes
    names_region: bool = True
    """Whether GetBucketLocation is allowed."""

    def __call__(self, request: Request) -> Answer:
        region = signed_for(request)
        if operations([request]) == ["GetBucketLocation"]:
            if not self.names_region:
                return refusal("403 Forbidden", "AccessDenied")
            location = f"<LocationConstraint>{ELSEWHERE}</LocationConstraint>"
            return answer("200 OK", location)
        return Relay(self.port) if region == ELSEWHERE else self.wrong


def signed_for(request: Request) -> str:
    return request.headers["authorization"].split("/")[2]


MOVED = refusal("301 Moved Permanently", "PermanentRedirect", "Use the specified endpoint.")
NAMED = refusal("301 Moved Permanently", "PermanentRedirect", x_amz_bucket_region=ELSEWHERE)
MISADDRESSED = answer(
    "400 Bad Request",
    "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region 'us-east-1' is wrong"
    f"</Message><Region>{ELSEWHERE}</Region></Error>",
)


@pytest.mark.parametrize("own_endpoint", [False, True], ids=["aws", "own endpoint"])
def test_301_wrong_region_is_resolved_by_itself_with_get_bucket_location(
    s3: S3Server, bucket: str, *, own_endpoint: bool
) -> None:
    result = put_by_rule(
        Regional(s3.port, MOVED),
        Destination("d", bucket),
        failures=0,
        s3=None if own_endpoint else S3(region="us-east-1"),
    )
    delivered_once(s3, bucket, result)
    assert operations(result.requests) == ["PutObject", "GetBucketLocation", "PutObject"]
    assert [signed_for(it) for it in result.requests][0::2] == ["us-east-1", ELSEWHERE]


@pytest.mark.parametrize("wrong", [NAMED, MISADDRESSED], ids=["301", "400"])
def test_wrong_region_whose_answer_names_the_right_one_is_resolved_by_itself(
    s3: S3Server, bucket: str, wrong: bytes
) -> None:
    rule = Regional(s3.port, wrong, names_region=False)
    result = put_by_rule(rule, Destination("d", bucket), failures=0, s3=S3(region="us-east-1"))
    delivered_once(s3, bucket, result)
    assert operations(result.requests) == ["PutObject", "PutObject"]


def test_region_that_was_found_is_asked_from_then_on(s3: S3Server, bucket: str) -> None:
    destination = Destination("d", bucket)

    async def scenario() -> tuple[list[Stored | DeliveryError], list[Request]]:
        async with (
            recorder(rule=Regional(s3.port, MOVED)) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            results = [await attempt(storage, destination) for _ in range(2)]
        return results, server.requests

    (first, second), requests = asyncio.run(scenario())
    assert isinstance(first, Stored)
    assert isinstance(second, Stored)
    assert (first.already_existed, second.already_existed) == (False, True)
    assert operations(requests) == [
        *("PutObject", "GetBucketLocation", "PutObject"),
        *("PutObject", "HeadObject"),
    ]
    assert [signed_for(it) for it in requests[2:]] == [ELSEWHERE] * 3


def test_301_wrong_region_that_may_not_be_asked_for_is_permanent_until_it_is_set(
    s3: S3Server, bucket: str
) -> None:
    rule = Regional(s3.port, MOVED, names_region=False)
    result = put_by_rule(rule, Destination("d", bucket), Destination("d", bucket, region=ELSEWHERE))
    assert type(result.error) is PermanentError
    assert result.error.code == "PermanentRedirect"
    delivered_once(s3, bucket, result)
    assert "HeadBucket" not in operations(result.requests)


# --- permanent: options that the bucket does not take ---------------------------------------------


def test_acl_that_the_bucket_does_not_support_is_permanent_until_it_is_changed(
    s3: S3Server, bucket: str
) -> None:
    def without_acls(request: Request) -> Answer:
        # As S3 answers since 2023 for every new bucket.
        if request.headers.get("x-amz-acl", "bucket-owner-full-control").startswith("bucket-owner"):
            return Relay(s3.port)
        words = "The bucket does not allow ACLs"
        return refusal("400 Bad Request", "AccessControlListNotSupported", words)

    result = put_by_rule(
        without_acls,
        Destination("d", bucket, acl="public-read"),
        Destination("d", bucket, acl="bucket-owner-full-control"),
    )
    assert type(result.error) is PermanentError
    assert result.error.code == "AccessControlListNotSupported"
    delivered_once(s3, bucket, result)


@pytest.mark.parametrize("content", [CONTENT, IN_PARTS], ids=["whole", "in parts"])
def test_bucket_of_another_owner_is_permanent_and_gets_nothing(
    s3: S3Server, bucket: str, content: bytes
) -> None:
    owner = "111122223333"
    stood: list[object] = []

    def owned(request: Request) -> Answer:
        stood.append(contents(s3, bucket))
        expected = request.headers.get("x-amz-expected-bucket-owner", owner)
        if expected == owner:
            return Relay(s3.port)
        return refusal("403 Forbidden", "AccessDenied", "Access Denied")

    result = put_by_rule(
        owned,
        Destination("d", bucket, expected_bucket_owner="444455556666"),
        Destination("d", bucket, expected_bucket_owner=owner),
        content=content,
    )
    assert type(result.error) is PermanentError
    assert result.error.code == "AccessDenied"
    assert all(it == {} for it in stood)
    owners = [it.headers.get("x-amz-expected-bucket-owner") for it in result.requests]
    assert owners == ["444455556666", *[owner] * (len(owners) - 1)], "a request without the owner"
    delivered_once(s3, bucket, result, content)


# --- in parts -------------------------------------------------------------------------------------


def test_200_with_an_error_body_on_complete_is_transient_and_leaves_nothing(
    s3: S3Server, bucket: str
) -> None:
    # S3 has sent the head and blanks by the time that it fails.
    body = (
        "<?xml version='1.0'?>\n   \n<Error><Code>InternalError</Code><Message>x</Message></Error>"
    )
    rule = failing(s3, "CompleteMultipartUpload", answer("200 OK", body))
    result = put_by_rule(rule, Destination("d", bucket), content=IN_PARTS)
    assert type(result.error) is TransientError
    assert result.error.code == "InternalError"
    delivered_once(s3, bucket, result, IN_PARTS)
    assert operations(result.requests).count("AbortMultipartUpload") == 1


def test_lost_answer_after_a_complete_that_succeeded_is_transient_and_the_object_is_found(
    s3: S3Server, bucket: str
) -> None:
    rule = failing(s3, "CompleteMultipartUpload", Relay(s3.port, is_lost=True))
    result = put_by_rule(rule, Destination("d", bucket), content=IN_PARTS)
    assert type(result.error) is TransientError
    assert contents(s3, bucket) == {KEY: IN_PARTS}
    assert result.stored.already_existed
    assert operations(result.requests).count("CompleteMultipartUpload") == 2
    assert unfinished(s3, bucket) == 0


@pytest.mark.parametrize(
    ("operation", "code", "fault"),
    [
        ("UploadPart", "ConnectionClosedError", reset),
        (
            "CompleteMultipartUpload",
            "ConditionalRequestConflict",
            refusal("409 Conflict", "ConditionalRequestConflict"),
        ),
        ("CompleteMultipartUpload", "NoSuchUpload", refusal("404 Not Found", "NoSuchUpload")),
    ],
    ids=["reset in a part", "409 on complete", "upload that is gone"],
)
def test_fault_of_a_multipart_upload_is_transient_and_begins_anew(
    s3: S3Server, bucket: str, operation: str, code: str, fault: Answer
) -> None:
    rule = failing(s3, operation, fault)
    result = put_by_rule(rule, Destination("d", bucket), content=IN_PARTS)
    assert type(result.error) is TransientError
    assert result.error.code == code
    delivered_once(s3, bucket, result, IN_PARTS)
    assert operations(result.requests).count("CreateMultipartUpload") == 2
