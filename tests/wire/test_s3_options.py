"""Each option of a destination: the header that AWS documents for it, and nothing beside it.

    options ──> `Storage.put` ──> a server that records its requests
    role    ──> an STS that does so too

Regions: how S3 redirects when a bucket is elsewhere, and where requests go then.
"""

import asyncio
import base64
import hashlib
import random
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qs

import pytest

from stream_app.config.settings import S3, Destination
from stream_app.core.receipt import Stored
from stream_app.embedded.process import HOST, free_ports
from stream_app.errors import DeliveryError, PermanentError, TransientError
from stream_app.s3.access_check import CHECKS_MAX
from stream_app.s3.body import MULTIPART_BYTES
from stream_app.s3.clients import CLIENTS_MAX, Clients
from stream_app.s3.storage import Storage
from stream_app.worker.window_delivery import UPLOADS_MAX
from tests.contract.recorder import (
    COMPLETED,
    CREATED,
    DONE,
    LOCATED,
    Answer,
    Request,
    answer,
    hang,
    recorder,
    refusal,
)

CONTENT = b"the bytes of an object"
LARGE = random.Random(3).randbytes(MULTIPART_BYTES + 1)
KEY = "test/2026/11/24/16/2026-11-24-16-31-02-0123.gz"
TO = Destination("d", "my-bucket")
ROLE = "arn:aws:iam::123456789012:role/stream-app"

EXISTS = refusal("412 Precondition Failed", "PreconditionFailed")

_T = TypeVar("_T")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMADEUPMADEUPMADE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")


def put(destination: Destination, *answers: Answer, content: bytes = CONTENT) -> list[Request]:
    """Put an object at a server with these answers; return its requests."""

    async def scenario() -> list[Request]:
        async with (
            recorder(*answers) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            await storage.put(destination, KEY, content, lines=2, size=18)
        return server.requests

    return asyncio.run(scenario())


def rule(request: Request) -> Answer:
    """Answer each request of an upload in parts, in whatever order they come."""
    if request.target.endswith("?uploads"):
        return CREATED
    return COMPLETED if request.method == "POST" else DONE


def put_in_parts(destination: Destination) -> list[Request]:
    async def scenario() -> list[Request]:
        async with recorder(DONE) as server:
            server.answers = rule
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                await storage.put(destination, KEY, LARGE, lines=2, size=18)
        return server.requests

    return asyncio.run(scenario())


def stream_in_parts(destination: Destination) -> list[Request]:
    """The same for an object whose parts leave one by one."""

    async def scenario() -> list[Request]:
        async with (
            recorder(rule=rule) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            upload_id = await storage.begin(destination, KEY)
            sent: dict[int, Any] = {}
            for part in enumerate((LARGE[:1000], LARGE[1000:1500], CONTENT), start=1):
                await storage.send(destination, KEY, upload_id, [part], sent.__setitem__)
            await storage.complete(
                destination,
                KEY,
                upload_id,
                [sent[number] for number in sorted(sent)],
                lines=2,
                size=18,
                size_compressed=1500 + len(CONTENT),
                sha256="",
            )
        return server.requests

    return asyncio.run(scenario())


WAYS = [put_in_parts, stream_in_parts]
HEADERS = [
    ({"acl": "bucket-owner-full-control"}, {"x-amz-acl": "bucket-owner-full-control"}),
    ({"storage_class": "GLACIER_IR"}, {"x-amz-storage-class": "GLACIER_IR"}),
    ({"sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
    (
        {"sse": "aws:kms", "kms_key_id": "arn:aws:kms:eu-west-1:123456789012:key/1-2"},
        {
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": (
                "arn:aws:kms:eu-west-1:123456789012:key/1-2"
            ),
        },
    ),
    (
        {"tags": (("team", "orders & co"), ("été", "a=b+c/d"))},
        {"x-amz-tagging": "team=orders%20%26%20co&%C3%A9t%C3%A9=a%3Db%2Bc%2Fd"},
    ),
    ({"content_type": "application/x-ndjson"}, {"content-type": "application/x-ndjson"}),
    ({"content_encoding": "gzip"}, {"content-encoding": "gzip"}),
    ({"format": "zstd"}, {"content-type": "application/zstd"}),
    (
        {"format": "zstd", "content_type": "a/b", "content_encoding": "zstd"},
        {"content-type": "a/b", "content-encoding": "zstd"},
    ),
    ({"expected_bucket_owner": "123456789012"}, {"x-amz-expected-bucket-owner": "123456789012"}),
]
OPTIONAL = {
    "content-encoding",
    "x-amz-acl",
    "x-amz-expected-bucket-owner",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-storage-class",
    "x-amz-tagging",
}


@pytest.mark.parametrize(("options", "headers"), HEADERS)
def test_option_travels_as_its_header_and_alone(
    options: dict[str, Any], headers: dict[str, str]
) -> None:
    (request,) = put(replace(TO, **options), DONE)
    assert {name: request.headers.get(name) for name in headers} == headers
    assert OPTIONAL & set(request.headers) == OPTIONAL & set(headers)
    assert request.body == CONTENT
    signed = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    assert {it for it in headers if it.startswith("x-amz-")} <= set(signed.split(";"))


def test_without_options_no_optional_header_travels() -> None:
    (request,) = put(TO, DONE)
    assert OPTIONAL & set(request.headers) == set()
    assert request.headers["content-type"] == "application/gzip"


@pytest.mark.parametrize("upload", WAYS)
@pytest.mark.parametrize(("options", "headers"), HEADERS)
def test_option_begins_an_upload_in_parts(
    options: dict[str, Any],
    headers: dict[str, str],
    upload: Callable[[Destination], list[Request]],
) -> None:
    created, *_ = upload(replace(TO, **options))
    assert created.target == f"/my-bucket/{KEY}?uploads"
    assert {name: created.headers.get(name) for name in headers} == headers


IN_REQUESTS: dict[str, Any] = {
    "acl": "private",
    "bucket": "other-bucket",
    "checksum": "crc32",
    "content_encoding": "gzip",
    "content_type": "application/x-ndjson",
    "expected_bucket_owner": "123456789012",
    "format": "zstd",
    "kms_key_id": "alias/archive",
    "region": "eu-west-1",
    "sse": "aws:kms",
    "storage_class": "GLACIER_IR",
    "tags": (("team", "orders"),),
}
"""Another value than the default of each option that PutObject and CreateMultipartUpload have."""
NOT_IN_REQUESTS = {
    "addressing_style": "in the URL of a server with a name: see test_s3_addressing",
    "conditional_writes": "in PutObject and CompleteMultipartUpload: see the tests of it below",
    "endpoint_url": "the server of all requests: test_destination_is_reached_at_its_own_endpoint",
    "external_id": "in AssumeRole: test_role_is_assumed_with_our_credentials",
    "id": "names the destination in receipts, logs and metrics",
    "payload": "evaluated before: in the content",
    "pipeline": "chooses the events before: in the content",
    "prefix": "a part of the key that storage is given",
    "role_arn": "in AssumeRole, whose credentials sign: test_role_is_assumed_with_our_credentials",
}
"""Why the other options are in neither."""
VOLATILE = {"authorization", "amz-sdk-invocation-id", "host", "x-amz-date"}


def significant(request: Request) -> tuple[str, str, dict[str, str]]:
    """Return what of a request depends on options alone."""
    headers = {name: text for name, text in request.headers.items() if name not in VOLATILE}
    return request.target, region_of(request), headers


def test_every_option_is_in_the_requests_or_has_a_reason_why_not() -> None:
    names = {it.name for it in fields(Destination)}
    assert names == IN_REQUESTS.keys() | NOT_IN_REQUESTS.keys()
    assert IN_REQUESTS.keys().isdisjoint(NOT_IN_REQUESTS)


@pytest.mark.parametrize("option", IN_REQUESTS)
def test_option_reaches_put_object_and_create_multipart_upload(option: str) -> None:
    assert IN_REQUESTS[option] != getattr(TO, option)
    changed = replace(TO, **{option: IN_REQUESTS[option]})
    for upload in (lambda to: put(to, DONE), stream_in_parts):
        plain, again, other = (significant(upload(it)[0]) for it in (TO, TO, changed))
        assert plain == again, "without an option nothing changes"
        assert plain != other


def test_expected_owner_travels_with_every_request() -> None:
    owned = replace(TO, expected_bucket_owner="123456789012")
    requests = (
        put_in_parts(owned)
        + stream_in_parts(owned)
        + put(replace(owned, conditional_writes=False), answer("404 Not Found"), DONE)
    )
    assert len(requests) == 12
    assert {it.headers["x-amz-expected-bucket-owner"] for it in requests} == {"123456789012"}


def encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


CHECKSUMS = {
    "sha256": ("x-amz-checksum-sha256", lambda it: hashlib.sha256(it).digest()),
    "crc32": ("x-amz-checksum-crc32", lambda it: zlib.crc32(it).to_bytes(4, "big")),
    "md5": ("content-md5", lambda it: hashlib.md5(it, usedforsecurity=False).digest()),
}


def sums(request: Request) -> dict[str, str]:
    names = {name for name, _ in CHECKSUMS.values()}
    return {name: text for name, text in request.headers.items() if name in names}


@pytest.mark.parametrize("algorithm", CHECKSUMS)
@pytest.mark.parametrize("content", [CONTENT, LARGE[: 2 * 1024 * 1024]])
def test_checksum_travels_as_its_header_and_alone(algorithm: Any, content: bytes) -> None:
    (request,) = put(replace(TO, checksum=algorithm), DONE, content=content)
    name, digest = CHECKSUMS[algorithm]
    assert sums(request) == {name: encoded(digest(content))}
    assert request.body == content


@pytest.mark.parametrize("upload", WAYS)
@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_each_part_carries_its_checksum(
    algorithm: Any, upload: Callable[[Destination], list[Request]]
) -> None:
    created, *parts, completed = upload(replace(TO, checksum=algorithm))
    name, digest = CHECKSUMS[algorithm]
    assert [sums(it) for it in parts] == [{name: encoded(digest(it.body))} for it in parts]
    announced = {"sha256": "SHA256", "crc32": "CRC32", "md5": None}[algorithm]
    assert created.headers.get("x-amz-checksum-algorithm") == announced
    for part in parts:
        digest_of_part = encoded(digest(part.body)).encode()
        assert (digest_of_part in completed.body) == (announced is not None)


@pytest.mark.parametrize("algorithm", CHECKSUMS)
def test_receipt_has_sha256_whatever_travels(algorithm: Any) -> None:
    async def scenario() -> Stored:
        async with (
            recorder(DONE) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            return await storage.put(
                replace(TO, checksum=algorithm), KEY, CONTENT, lines=2, size=18
            )

    assert asyncio.run(scenario()).checksum == encoded(hashlib.sha256(CONTENT).digest())


def test_answer_without_an_etag_is_none_of_s3s() -> None:
    with pytest.raises(TransientError, match="the response has no ETag"):
        put(TO, answer("200 OK", "<html>Welcome</html>", "text/html"))


# --- conditional_writes ---------------------------------------------------------------------------


UNCONDITIONAL = replace(TO, conditional_writes=False)
SAME = answer(
    "200 OK",
    "x" * len(CONTENT),
    x_amz_meta_lines="2",
    x_amz_meta_uncompressed_size="18",
    ETag='"there"',
)


def test_condition_travels_by_default_without_a_check() -> None:
    (request,) = put(TO, DONE)
    assert request.headers["if-none-match"] == "*"


def test_without_condition_the_key_is_checked_and_written() -> None:
    checked, written = put(UNCONDITIONAL, answer("404 Not Found"), DONE)
    assert (checked.method, written.method) == ("HEAD", "PUT")
    assert "if-none-match" not in written.headers


def test_without_condition_a_key_that_may_not_be_read_is_written() -> None:
    assert [it.method for it in put(UNCONDITIONAL, answer("403 Forbidden"), DONE)] == [
        "HEAD",
        "PUT",
    ]


def test_without_condition_an_object_that_is_there_is_not_written_again() -> None:
    assert [it.method for it in put(UNCONDITIONAL, SAME)] == ["HEAD"]


def test_without_condition_another_object_that_is_there_stays() -> None:
    with pytest.raises(PermanentError) as refused:
        put(UNCONDITIONAL, answer("200 OK", "another one"))
    assert refused.value.code == "ObjectDiffers"


def test_without_condition_a_failed_check_is_no_reason_to_write() -> None:
    with pytest.raises(TransientError):
        put(UNCONDITIONAL, answer("503 Service Unavailable"))


# --- region, endpoint and the clients -------------------------------------------------------------


def region_of(request: Request) -> str:
    return request.headers["authorization"].split("/")[2]


def using(s3: S3, work: Callable[[Storage], Awaitable[_T]]) -> _T:
    async def opened() -> _T:
        async with Storage(s3) as storage:
            return await work(storage)

    return asyncio.run(opened())


def test_destination_is_reached_at_its_own_endpoint_and_region() -> None:
    async def scenario() -> tuple[list[Request], list[Request]]:
        async with recorder(DONE) as ours, recorder(DONE) as its:
            async with Storage(S3("us-east-1", ours.endpoint_url)) as storage:
                other = replace(TO, endpoint_url=its.endpoint_url, region="eu-west-1")
                for destination in (TO, other):
                    await storage.put(destination, KEY, CONTENT, lines=2, size=18)
            return ours.requests, its.requests

    (ours,), (its,) = asyncio.run(scenario())
    assert (region_of(ours), region_of(its)) == ("us-east-1", "eu-west-1")


def test_clients_are_shared_and_bounded_and_closed() -> None:
    async def scenario() -> None:
        async with recorder(LOCATED) as server:
            s3 = S3(endpoint_url=server.endpoint_url)
            async with Clients(s3, clients_max=3) as opened:
                for number in range(5):
                    for bucket in ("bucket-a", "bucket-b"):
                        destination = Destination("d", bucket, region=f"region-{number}")
                        await opened.call(destination, "get_bucket_location")
                assert [it.region for it in opened._clients] == ["region-2", "region-3", "region-4"]
            assert not opened._clients
        assert len(server.requests) == 10

    asyncio.run(scenario())


def test_client_that_is_in_use_is_not_closed() -> None:
    begun, answered = asyncio.Event(), asyncio.Event()

    async def late(writer: asyncio.StreamWriter) -> None:
        begun.set()
        await answered.wait()
        writer.write(LOCATED)
        await writer.drain()

    async def scenario() -> None:
        async with (
            recorder(late) as slow,
            recorder(LOCATED) as quick,
            Clients(S3(endpoint_url=quick.endpoint_url), clients_max=1) as opened,
        ):
            there = replace(TO, endpoint_url=slow.endpoint_url)
            task = asyncio.create_task(opened.call(there, "get_bucket_location"))
            await begun.wait()
            await opened.call(TO, "get_bucket_location")
            assert len(opened._clients) == 2
            answered.set()
            await task
            await opened.call(replace(TO, region="x"), "get_bucket_location")
            assert [it.region for it in opened._clients] == ["x"]

    asyncio.run(scenario())


def test_more_requests_than_clients_are_under_way_at_no_time() -> None:
    # Else a client would be made and closed again for each request.
    assert max(UPLOADS_MAX, CHECKS_MAX) < CLIENTS_MAX


def test_two_that_need_the_same_client_at_once_share_it() -> None:
    async def scenario() -> None:
        async with (
            recorder(DONE) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            there = replace(TO, region="eu-west-1")
            await asyncio.gather(
                *(storage.put(there, KEY, CONTENT, lines=2, size=18) for _ in range(5))
            )
            assert len(storage.clients._clients) == 2

    asyncio.run(scenario())


def test_endpoint_that_botocore_does_not_take_is_permanent() -> None:
    there = replace(TO, endpoint_url=f"http://my_host:{free_ports(1)[0]}")
    with pytest.raises(PermanentError, match="my_host") as refused:
        using(S3(), lambda storage: storage.put(there, KEY, CONTENT, lines=2, size=18))
    assert refused.value.code == "InvalidRequest"


ELSEWHERE = [
    refusal("301 Moved Permanently", "PermanentRedirect", x_amz_bucket_region="eu-central-1"),
    refusal("307 Temporary Redirect", "TemporaryRedirect", x_amz_bucket_region="eu-central-1"),
    refusal(
        "400 Bad Request", "IllegalLocationConstraintException", x_amz_bucket_region="eu-central-1"
    ),
    answer(
        "400 Bad Request",
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>in words</Message>"
        "<Region>eu-central-1</Region></Error>",
    ),
]


@pytest.mark.parametrize("response", ELSEWHERE)
def test_bucket_elsewhere_is_written_there_and_from_then_on(
    response: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> list[Request]:
        async with recorder(response, DONE) as server:
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                for key in (KEY, "2", "3"):
                    await storage.put(TO, key, LARGE[:1_000_000], lines=2, size=18)
            return server.requests

    caplog.set_level("INFO", "stream_app.s3.clients")
    requests = asyncio.run(scenario())
    assert [region_of(it) for it in requests] == ["us-east-1"] + ["eu-central-1"] * 3
    assert [len(it.body) for it in requests] == [1_000_000] * 4
    (message,) = caplog.messages
    assert message.startswith("bucket my-bucket is in region eu-central-1, not in us-east-1")


def test_region_that_is_not_named_is_requested() -> None:
    moved = refusal("301 Moved Permanently", "PermanentRedirect")
    first, located, last = put(TO, moved, LOCATED, DONE)
    assert located.target == "/my-bucket?location"
    assert [region_of(it) for it in (first, located, last)] == [
        "us-east-1",
        "us-east-1",
        "eu-central-1",
    ]


def test_region_of_an_aws_bucket_is_requested_in_the_home_region(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> list[Request]:
        moved = refusal("301 Moved Permanently", "PermanentRedirect")
        async with recorder(moved, LOCATED, DONE) as server:
            # So settings without an endpoint mean AWS, and the requests come here.
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
            async with Storage(S3("sa-east-1")) as storage:
                await storage.put(TO, KEY, CONTENT, lines=2, size=18)
            return server.requests

    assert [region_of(it) for it in asyncio.run(scenario())] == [
        "sa-east-1",
        "us-east-1",
        "eu-central-1",
    ]


@pytest.mark.parametrize("region", ["us-east-1", "evil.example.com/", "a b", ""])
def test_region_that_leads_nowhere_is_not_followed(region: str) -> None:
    moved = refusal("301 Moved Permanently", "PermanentRedirect", x_amz_bucket_region=region)
    with pytest.raises(PermanentError) as refused:
        put(TO, moved, moved)
    assert refused.value.code == "PermanentRedirect"


def test_bucket_that_moves_on_and_on_is_followed_once_in_an_attempt() -> None:
    first = refusal("301 Moved Permanently", "PermanentRedirect", x_amz_bucket_region="eu-west-1")
    second = refusal("301 Moved Permanently", "PermanentRedirect", x_amz_bucket_region="eu-west-2")
    with pytest.raises(PermanentError) as refused:
        put(TO, first, second)
    assert refused.value.code == "PermanentRedirect"


def test_bucket_that_was_moved_again_is_found_again() -> None:
    async def scenario() -> list[Request]:
        elsewhere = (
            refusal("301 Moved Permanently", "PermanentRedirect", x_amz_bucket_region=region)
            for region in ("eu-west-1", "eu-west-2")
        )
        async with recorder(next(elsewhere), DONE, next(elsewhere), DONE) as server:
            async with Storage(S3(endpoint_url=server.endpoint_url)) as storage:
                for key in ("1", "2", "3"):
                    await storage.put(TO, key, CONTENT, lines=2, size=18)
            return server.requests

    assert [region_of(it) for it in asyncio.run(scenario())] == [
        "us-east-1",
        "eu-west-1",
        "eu-west-1",
        "eu-west-2",
        "eu-west-2",
    ]


# --- roles ----------------------------------------------------------------------------------------


def assumed(number: int, seconds: float) -> bytes:
    """Return STS's answer: credentials that end in so many seconds."""
    ends_at = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return answer(
        "200 OK",
        "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
        f"<AccessKeyId>ASIAMADEUP{number}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
        f"<SessionToken>token-{number}</SessionToken><Expiration>{ends_at}</Expiration>"
        "</Credentials></AssumeRoleResult></AssumeRoleResponse>",
        "text/xml",
    )


def sts_refusal(status: str, code: str) -> bytes:
    return answer(
        status,
        f"<ErrorResponse><Error><Code>{code}</Code><Message>in words</Message></Error>"
        "</ErrorResponse>",
        "text/xml",
    )


def with_roles(
    sts_answers: list[Answer],
    *waves: list[Destination],
    seconds_min: float = 10.0,
) -> tuple[list[Request], list[Request], list[DeliveryError | None]]:
    """Call S3 for buckets in waves, each at once; return the requests to STS and S3, and errors."""

    async def scenario() -> tuple[list[Request], list[Request], list[DeliveryError | None]]:
        async with recorder(*sts_answers) as sts, recorder(LOCATED) as server:
            with pytest.MonkeyPatch.context() as patched:
                patched.setenv("AWS_ENDPOINT_URL_STS", sts.endpoint_url)
                s3 = S3(endpoint_url=server.endpoint_url)
                # On a loaded machine it takes seconds to make the clients of one wave.
                async with Clients(s3, role_seconds_min=seconds_min) as opened:
                    usual = opened.response_seconds_max

                    async def ask(destination: Destination) -> DeliveryError | None:
                        try:
                            await opened.call(destination, "get_bucket_location")
                        except DeliveryError as error:
                            return error
                        return None

                    errors: list[DeliveryError | None] = []
                    for number, wave in enumerate(waves):
                        # STS has seen the request by the time that nobody waits for it any more.
                        is_unanswered = sts_answers[min(number, len(sts_answers) - 1)] is hang
                        opened.response_seconds_max = 4 if is_unanswered else usual
                        errors += await asyncio.gather(*(ask(it) for it in wave))
            return sts.requests, server.requests, errors

    return asyncio.run(scenario())


ASSUMING = replace(TO, role_arn=ROLE)


def test_role_is_assumed_with_our_credentials_and_its_own_are_used() -> None:
    (to_sts,), (request,), errors = with_roles(
        [assumed(1, 3600)], [replace(ASSUMING, external_id="ours:42", region="eu-west-1")]
    )
    assert errors == [None]
    form = {name: texts[0] for name, texts in parse_qs(to_sts.body.decode()).items()}
    assert form["Action"] == "AssumeRole"
    assert (form["RoleArn"], form["ExternalId"]) == (ROLE, "ours:42")
    assert form["RoleSessionName"] == "stream-app"
    assert "Credential=AKIAMADEUP" in to_sts.headers["authorization"]
    assert region_of(to_sts) == "eu-west-1"
    assert "Credential=ASIAMADEUP1/" in request.headers["authorization"]
    assert request.headers["x-amz-security-token"] == "token-1"


def test_without_an_external_id_none_is_sent() -> None:
    (to_sts,), _, _ = with_roles([assumed(1, 3600)], [ASSUMING])
    assert b"ExternalId" not in to_sts.body


def test_role_is_assumed_once_for_all_destinations_that_have_it() -> None:
    shared = [replace(ASSUMING, bucket=f"bucket-{n}", region=f"region-{n}") for n in range(8)]
    to_sts, requests, errors = with_roles([assumed(1, 3600)], shared, shared)
    assert (len(to_sts), len(requests), set(errors)) == (1, 16, {None})


def test_role_outlives_its_clients() -> None:
    async def scenario() -> int:
        async with recorder(assumed(1, 3600)) as sts, recorder(LOCATED) as server:
            with pytest.MonkeyPatch.context() as patched:
                patched.setenv("AWS_ENDPOINT_URL_STS", sts.endpoint_url)
                s3 = S3(endpoint_url=server.endpoint_url)
                async with Clients(s3, clients_max=1) as opened:
                    for destination in (ASSUMING, TO, ASSUMING):
                        await opened.call(destination, "get_bucket_location")
        assert len(server.requests) == 3
        return len(sts.requests)

    assert asyncio.run(scenario()) == 1


def test_another_external_id_is_another_role() -> None:
    to_sts, requests, _ = with_roles(
        [assumed(1, 3600), assumed(2, 3600)],
        [replace(ASSUMING, external_id="one")],
        [replace(ASSUMING, external_id="two")],
        [TO],
    )
    assert len(to_sts) == 2
    keys = [it.headers["authorization"].split("Credential=")[1].split("/")[0] for it in requests]
    assert keys == ["ASIAMADEUP1", "ASIAMADEUP2", "AKIAMADEUPMADEUPMADE"]


def test_credentials_are_renewed_before_they_end() -> None:
    # Eight minutes are left: within the ten in which the old ones are no longer used.
    to_sts, requests, errors = with_roles(
        [assumed(1, 480), assumed(2, 3600)], [ASSUMING], [ASSUMING] * 8, seconds_min=0
    )
    assert set(errors) == {None}
    assert [it.headers["x-amz-security-token"] for it in requests] == ["token-1"] + ["token-2"] * 8
    assert len(to_sts) == 2


def test_sts_that_gives_short_credentials_has_not_one_request_for_each_of_ours() -> None:
    to_sts, requests, errors = with_roles([assumed(1, 480)], *[[ASSUMING] * 4] * 5)
    assert (len(to_sts), len(requests), set(errors)) == (1, 20, {None})


def test_failing_sts_is_hidden_while_the_credentials_are_good(
    caplog: pytest.LogCaptureFixture,
) -> None:
    to_sts, requests, errors = with_roles(
        [assumed(1, 480), sts_refusal("500 Internal Server Error", "InternalFailure")],
        *[[ASSUMING] * 3] * 3,
        seconds_min=0,
    )
    assert set(errors) == {None}
    assert len(requests) == 9
    assert len(to_sts) > 1
    assert f"role {ROLE} cannot be assumed: in words; its credentials end at" in caplog.text


def test_failing_sts_is_not_stormed() -> None:
    to_sts, requests, errors = with_roles(
        [sts_refusal("403 Forbidden", "AccessDenied")], *[[ASSUMING] * 5] * 4
    )
    assert (len(to_sts), requests) == (1, [])
    assert {(type(it), str(it)) for it in errors} == {
        (PermanentError, f"AccessDenied: role {ROLE} cannot be assumed: in words")
    }


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (sts_refusal("400 Bad Request", "Throttling"), "Throttling"),
        (sts_refusal("500 Internal Server Error", "InternalFailure"), "InternalFailure"),
        (assumed(1, -60), "ExpiredToken"),
        (hang, "TimeoutError"),
    ],
)
def test_fault_of_sts_that_time_heals_is_transient(response: Answer, code: str) -> None:
    _, requests, (error,) = with_roles([response], [ASSUMING])
    assert isinstance(error, TransientError)
    assert error.code == code
    assert requests == []


def test_sts_that_did_not_respond_is_requested_again() -> None:
    to_sts, _, errors = with_roles([hang, assumed(1, 3600)], [ASSUMING], [ASSUMING])
    assert [error is None for error in errors] == [False, True]
    assert len(to_sts) == 2


def test_role_without_credentials_of_our_own_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    to_sts, _, (error,) = with_roles([assumed(1, 3600)], [ASSUMING])
    assert isinstance(error, TransientError)
    assert (error.code, to_sts) == ("NoCredentials", [])


def test_unreachable_sts_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{HOST}:{free_ports(1)[0]}")
    with pytest.raises(TransientError, match=f"role {ROLE} cannot be assumed") as failure:
        using(
            S3(endpoint_url=f"http://{HOST}:1"),
            lambda storage: storage.put(ASSUMING, KEY, CONTENT, lines=2, size=18),
        )
    assert failure.value.code == "EndpointConnectionError"
