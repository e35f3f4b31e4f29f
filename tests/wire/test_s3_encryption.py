"""Encryption that a server ignores: noticed by its responses, counted, logged once, and a finding.

sse, kms_key_id ──> a server whose responses state an encryption, or none
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from stream_app.config.settings import S3, Delivery, Destination, Kafka, Settings
from stream_app.s3.access_check import check_buckets
from stream_app.s3.encryption import other_encryption
from stream_app.s3.storage import Storage
from tests.contract.recorder import (
    COMPLETED,
    CREATED,
    LOCATED,
    Answer,
    Request,
    answer,
    recorder,
    refusal,
)

KEY = "test/2026/11/24/16/2026-11-24-16-31-02-0123.gz"
TO = Destination("d", "my-bucket", sse="AES256")
ARN = "arn:aws:kms:eu-west-1:123456789012:key/1-2"
KMS = replace(TO, sse="aws:kms", kms_key_id="1-2")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMADEUPMADEUPMADE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")


def responding(**headers: str) -> Any:
    """Return the rule of a server that states an encryption by these headers, as MinIO does.

    The responses to CreateMultipartUpload and CompleteMultipartUpload have none of them.
    """

    def rule(request: Request) -> Answer:
        if request.method == "POST":
            return CREATED if "uploads" in request.target else COMPLETED
        if request.method == "GET":
            return LOCATED
        if request.method == "DELETE":
            return answer("204 No Content")
        return answer("200 OK", ETag='"the-etag"', **headers)

    return rule


def stored(rule: Any, *destinations: Destination) -> int:
    """Write two objects to each destination, one of them in two parts; return the count."""

    async def scenario() -> int:
        async with (
            recorder(rule=rule) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            for destination in destinations:
                await storage.put(destination, KEY, b"content", lines=2, size=18)
                upload_id = await storage.begin(destination, KEY)
                sent: dict[int, Any] = {}
                for part in ((1, b"first"), (2, b"second")):
                    await storage.send(destination, KEY, upload_id, [part], sent.__setitem__)
        return storage.encryption.objects

    return asyncio.run(scenario())


def test_each_object_without_the_requested_encryption_counts_and_the_first_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = replace(TO, id="e", sse=None)
    with caplog.at_level(logging.ERROR):
        assert stored(responding(), TO, TO, other) == 4
    (line,) = (it.getMessage() for it in caplog.records)
    assert line == (
        "bucket my-bucket of d: sse requests AES256, but by S3's response the encryption is: none; "
        "remove sse, or use a server that has it"
    )


def test_change_of_the_options_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert stored(responding(x_amz_server_side_encryption="AES256"), TO, KMS) == 2
    assert [it.levelname for it in caplog.records] == ["ERROR"]
    assert "sse requests aws:kms, but" in caplog.text
    assert "the encryption is: AES256" in caplog.text


@pytest.mark.parametrize(
    ("destination", "response", "other"),
    [
        (replace(TO, sse=None), {}, None),
        (TO, {"ServerSideEncryption": "AES256"}, None),
        (TO, {}, "none"),
        (TO, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": ARN}, "aws:kms"),
        (KMS, {"ServerSideEncryption": "aws:kms"}, None),
        (KMS, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": ARN}, None),
        (KMS, {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "x"}, "aws:kms with the key x"),
        (
            replace(KMS, kms_key_id="alias/archive"),
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": ARN},
            None,
        ),
        (
            replace(KMS, kms_key_id=None),
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": ARN},
            None,
        ),
        (replace(KMS, kms_key_id=ARN), {"ServerSideEncryption": "aws:kms:dsse"}, "aws:kms:dsse"),
    ],
)
def test_response_is_compared_with_the_request(
    destination: Destination, response: dict[str, str], other: str | None
) -> None:
    assert other_encryption(destination, response) == other


def findings(rule: Any, destination: Destination) -> tuple[list[str], list[str]]:
    """Return the findings of a check, and the methods of its requests."""

    async def scenario() -> tuple[list[str], list[str]]:
        async with recorder(rule=rule) as server:
            s3 = S3(endpoint_url=server.endpoint_url)
            (checked,) = await check_buckets(Settings(Kafka(), s3, Delivery(), (destination,)))
        return list(checked.problems), [it.method for it in server.requests]

    return asyncio.run(scenario())


def test_check_reports_encryption_that_the_server_ignores() -> None:
    (problem,), methods = findings(responding(), TO)
    assert problem == (
        "bucket 'my-bucket' (destination d): sse is \"AES256\", but the encryption in S3's "
        "response to UploadPart is: none; objects would be stored without the requested one; "
        "remove sse, or use a server that has it"
    )
    assert methods == ["GET", "POST", "PUT", "DELETE"]


def test_check_of_encryption_that_is_done_has_no_finding() -> None:
    rule = responding(x_amz_server_side_encryption="AES256")
    assert findings(rule, TO) == ([], ["GET", "POST", "PUT", "DELETE"])


def test_check_without_encryption_sends_no_part() -> None:
    assert findings(responding(), replace(TO, sse=None)) == ([], ["GET", "POST", "DELETE"])


def test_check_reports_encryption_that_fails_only_with_content_and_leaves_no_upload() -> None:
    def rule(request: Request) -> Answer:
        if request.method == "PUT":
            return refusal("500 Internal Server Error", "InternalError")
        answered: Answer = responding()(request)
        return answered

    (problem,), methods = findings(rule, KMS)
    assert problem.startswith(
        "bucket 'my-bucket' (destination d): S3 returned InternalError for UploadPart (in words)"
    )
    assert problem.endswith('(with sse = "aws:kms")')
    assert methods == ["GET", "POST", "PUT", "DELETE"]
