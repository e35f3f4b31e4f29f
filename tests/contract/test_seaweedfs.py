"""SeaweedFS: what our tests take it to do as S3 does, and where it does otherwise."""

import asyncio
import base64
import contextlib
import hashlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from stream_app.embedded import S3_REGION, S3Server
from stream_app.s3 import Storage
from stream_app.settings import S3

BODY = b"the content of an object\n" * 100
CHECKSUM = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
METADATA = {"lines": "27", "uncompressed-size": "4096"}
SECONDS_MAX = 10.0


@pytest.fixture
def client(s3: S3Server) -> Iterator[Any]:
    made = botocore.session.Session().create_client(
        "s3",
        endpoint_url=s3.endpoint_url,
        region_name=S3_REGION,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    with contextlib.closing(made):
        yield made


def contents(client: Any, bucket: str) -> dict[str, bytes]:  # noqa: ANN401 - botocore's client
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {
        it["Key"]: client.get_object(Bucket=bucket, Key=it["Key"])["Body"].read() for it in listed
    }


def test_second_put_under_a_condition_is_412_precondition_failed(
    client: Any,  # noqa: ANN401 - botocore's client
    bucket: str,
) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=BODY, IfNoneMatch="*")
    with pytest.raises(ClientError) as refusal:
        client.put_object(Bucket=bucket, Key="k", Body=b"other", IfNoneMatch="*")
    answer = refusal.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert answer["Error"]["Code"] == "PreconditionFailed"
    assert contents(client, bucket) == {"k": BODY}


def test_of_two_puts_at_once_exactly_one_wins(
    client: Any,  # noqa: ANN401 - botocore's client
    bucket: str,
) -> None:
    together = Barrier(2)

    def put(key: str, body: bytes) -> bool:
        together.wait(SECONDS_MAX)
        try:
            client.put_object(Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] not in {
                "PreconditionFailed",
                "ConditionalRequestConflict",
            }:
                raise
            return False
        return True

    bodies = (b"one" * 1000, b"two" * 1000)
    with ThreadPoolExecutor(2) as threads:
        for round_ in range(20):
            won = list(threads.map(put, [f"k{round_}"] * 2, bodies))
            assert sorted(won) == [False, True], f"round {round_}"
            found = client.get_object(Bucket=bucket, Key=f"k{round_}")["Body"].read()
            assert found == bodies[won.index(True)]


def put_that_dies_within_the_body(s3: S3Server, bucket: str, key: str, **headers: str) -> None:
    """Announce BODY, send a third of it, and shut the connection down; return when it is gone."""
    request = AWSRequest("PUT", f"{s3.endpoint_url}/{bucket}/{key}", data=BODY, headers=headers)
    SigV4Auth(Credentials(s3.access_key, s3.secret_key), "s3", S3_REGION).add_auth(request)
    place = urlsplit(s3.endpoint_url)
    lines = [
        f"PUT /{bucket}/{key} HTTP/1.1",
        f"Host: {place.netloc}",
        f"Content-Length: {len(BODY)}",
        *(f"{name}: {text}" for name, text in request.headers.items()),
    ]
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    with socket.create_connection((place.hostname, place.port), SECONDS_MAX) as connection:
        connection.sendall(head + BODY[: len(BODY) // 3])
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while connection.recv(4096):  # until the server has closed its side too
                pass


def test_put_that_dies_within_the_body_stores_nothing_when_it_carries_a_checksum(
    s3: S3Server,
    client: Any,  # noqa: ANN401 - botocore's client
    bucket: str,
) -> None:
    put_that_dies_within_the_body(
        s3, bucket, "torn", **{"x-amz-checksum-sha256": CHECKSUM, "If-None-Match": "*"}
    )
    assert contents(client, bucket) == {}
    client.put_object(
        Bucket=bucket, Key="torn", Body=BODY, IfNoneMatch="*", ChecksumSHA256=CHECKSUM
    )
    assert contents(client, bucket) == {"torn": BODY}


def test_put_without_a_checksum_that_dies_is_why_we_send_one(
    s3: S3Server,
    client: Any,  # noqa: ANN401 - botocore's client
    bucket: str,
) -> None:
    put_that_dies_within_the_body(s3, bucket, "torn", **{"If-None-Match": "*"})
    print(contents(client, bucket))
    assert False
