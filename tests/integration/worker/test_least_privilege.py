"""The documented policy is enough, and no more than that: proven by a server that refuses the rest.

The policy is the very document that `stream-app policy` prints. The server before the real one lets
through what it allows, answers 403 to all else, and keeps both (`tests/least_privilege.py`).
"""

import asyncio
import base64
import contextlib
import gzip
import os
import random
import re
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from stream_app.contents import MULTIPART_BYTES
from stream_app.embedded import KafkaServer, S3Server
from stream_app.errors import PermanentError
from stream_app.policy import bucket_policy
from stream_app.s3 import Storage
from stream_app.settings import S3, Destination
from tests.chaos.harness import Lab, in_a_loop, wait_until
from tests.chaos.oracle import Published, Target
from tests.chaos.s3_proxy import Fault, Request, Rule
from tests.least_privilege import UNKNOWN, LeastPrivilege, Policy, least_privilege

PRINCIPAL: Final = "arn:aws:iam::123456789012:role/stream-app"
SURVIVED: Final = {"HeadObject"}
"""What a worker may try and is documented to do without: a look at an object that is there."""
UNUSED: Final = {"s3:ListBucketMultipartUploads"}
"""For people who look for what was left unfinished; no request of ours needs it."""
ACL: Final = 'acl = "bucket-owner-full-control"'
EVENT_BYTES: Final = 600_000
SECONDS_MAX: Final = 30.0

Client = Any  # botocore makes the class at run time


async def run(folder: Path, s3: S3Server, *arguments: str) -> tuple[int, str]:
    """Run a command of `stream-app`; return its status and all its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "stream_app", *arguments),
        cwd=folder,
        env={**os.environ, **s3.environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS_MAX):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def documented(configuration: Path, s3: S3Server) -> Policy:
    """Return the policy that `stream-app policy` prints for a configuration."""
    command = ("policy", "--config", configuration.name, "--principal", PRINCIPAL)
    status, output = await run(configuration.parent, s3, *command)
    assert status == 0, output
    return Policy.parse(output)


def configure(
    folder: Path, bucket: str, options: str = "", endpoint_url: str = "http://127.0.0.1:9"
) -> Path:
    file = folder / "stream_app.toml"
    file.write_text(
        f"""
        [s3]
        endpoint_url = "{endpoint_url}"
        [[destinations]]
        id = "archive"
        bucket = "{bucket}"
        prefix = "archive/"
        {options}
        """,
        "utf-8",
    )
    return file


async def check(
    folder: Path, s3: S3Server, bucket: str, policy: Policy, options: str = ""
) -> tuple[int, str, LeastPrivilege]:
    """Run `stream-app check` under a policy."""
    async with least_privilege(s3, policy) as server:
        configuration = configure(folder, bucket, options, server.endpoint_url)
        status, output = await run(folder, s3, "check", "--config", configuration.name)
    return status, output, server


def policy_for(bucket: str, *, without: Collection[str] = ()) -> Policy:
    """Return what `stream-app policy` prints, without some of its actions."""
    return Policy.parse(bucket_policy(bucket, PRINCIPAL)).without(*without)


def _replayed(receipt: Published) -> bool:
    return bool(receipt.value["already_existed"])


# --- a worker -------------------------------------------------------------------------------------


@in_a_loop
async def test_worker_delivers_everything_with_a_crash_in_between(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=2) as lab:
        policy = await documented(lab.configuration, s3)
        async with least_privilege(s3, policy) as server:
            lab.proxy.upstream_port = server.port
            worker = await lab.start_worker()

            async def kill(request: Request) -> None:
                # S3 has the object, and the worker does not learn of it.
                if request.is_put:
                    worker.kill()

            lab.proxy.after = kill
            await lab.load.send(100)
            await wait_until(lambda: not worker.running, SECONDS_MAX, "a crash after a put")
            lab.proxy.heal()
            await lab.start_worker()
            await lab.load.send(100)
            await lab.settled()
        tags = {it.key: it.etag for it in lab.objects()}
        found = [it.value["object"] for it in await lab.read_receipts() if _replayed(it)]
        assert found, "nothing was replayed"
        assert {it["etag"] for it in found} == {None}, "somebody could look"
        for named in found:
            # The one thing in a receipt that only a look could tell.
            named["etag"] = tags[named["key"]]
        await lab.verify()
        assert server.allowed == {"GetBucketLocation", "PutObject"}
        assert server.refused == SURVIVED
        assert server.used <= policy.actions


@in_a_loop
async def test_worker_delivers_a_large_window_in_parts_when_the_answer_to_the_last_request_is_lost(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    target = Target("everything", "everything/")
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=(target,)) as lab:
        text = lab.configuration.read_text("utf-8")
        lab.configuration.write_text(text.replace("[[destinations]]", f"[[destinations]]\n{ACL}"))
        policy = await documented(lab.configuration, s3)
        async with least_privilege(s3, policy) as server:
            lab.proxy.upstream_port = server.port
            lab.proxy.rule = lose_one_answer()
            sent = large_events()
            at = int(time.time() * 1000)
            for value in sent:
                await lab.load.send_raw(value, pipeline="orders", timestamp_ms=at)
            await lab.start_worker()
            await lab.settled()
        (receipt,) = await lab.told(1)
        assert (receipt.value["status"], receipt.value["already_existed"]) == ("delivered", True)
        (stored,) = lab.objects()
        assert len(stored.body) > MULTIPART_BYTES
        assert gzip.decompress(stored.body).splitlines() == sent
        assert server.refused == SURVIVED
        assert server.used == policy.actions - UNUSED
        assert server.allowed == {
            *("GetBucketLocation", "CreateMultipartUpload", "UploadPart"),
            *("CompleteMultipartUpload", "AbortMultipartUpload"),
        }


def large_events() -> list[bytes]:
    """Return events that hardly compress, as many as make an upload in parts."""
    chance = random.Random(1)
    texts = [
        base64.b64encode(chance.randbytes(EVENT_BYTES))
        for _ in range(MULTIPART_BYTES // EVENT_BYTES + 2)
    ]
    return [b'{"n":%d,"text":"%s"}' % it for it in enumerate(texts)]


def lose_one_answer() -> Rule:
    """Return a rule: one upload in parts is completed, and nobody learns of it."""
    left = [Fault.LOSE_ANSWER]

    def rule(request: Request) -> Fault:
        is_complete = request.method == "POST" and "uploadId=" in request.target
        return left.pop() if is_complete and left else Fault.NONE

    return rule


# --- check ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["", ACL], ids=["plain", "with an ACL"])
def test_check_passes(s3: S3Server, bucket: str, tmp_path: Path, options: str) -> None:
    policy = asyncio.run(documented(configure(tmp_path, bucket, options), s3))
    assert policy == policy_for(bucket)
    status, output, server = asyncio.run(check(tmp_path, s3, bucket, policy, options))
    assert status == 0, output
    assert server.refused == set()
    assert server.allowed == {
        "GetBucketLocation",
        "CreateMultipartUpload",
        "AbortMultipartUpload",
    }


@pytest.mark.parametrize(
    ("right", "options"),
    [
        ("s3:AbortMultipartUpload", ""),
        ("s3:GetBucketLocation", ""),
        ("s3:PutObject", ""),
        ("s3:PutObject", ACL),
        ("s3:PutObjectAcl", ACL),
    ],
)
def test_check_fails_with_the_name_of_a_right_that_is_taken_away(
    s3: S3Server, bucket: str, tmp_path: Path, right: str, options: str
) -> None:
    policy = policy_for(bucket, without=[right])
    status, output, server = asyncio.run(check(tmp_path, s3, bucket, policy, options))
    assert status == 1
    assert re.findall(r"(s3:\w+) is missing", output) == [right]
    assert all(right in it.rights for it in server.asked if not it.is_allowed)


# --- a delivery -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("right", "acl", "content"),
    [
        ("s3:PutObject", None, b"small"),
        ("s3:PutObject", None, bytes(MULTIPART_BYTES + 1)),
        ("s3:PutObjectAcl", "bucket-owner-full-control", b"small"),
    ],
    ids=["s3:PutObject", "s3:PutObject in parts", "s3:PutObjectAcl"],
)
def test_delivery_fails_without_a_right_that_it_needs(
    s3: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    right: str,
    acl: str | None,
    content: bytes,
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    destination = Destination("d", bucket, acl=acl)

    async def put(*without: str) -> None:
        async with (
            least_privilege(s3, policy_for(bucket, without=without)) as server,
            Storage(S3(endpoint_url=server.endpoint_url)) as storage,
        ):
            await storage.put(destination, "k", content, lines=1, size=1)

    with pytest.raises(PermanentError, match="Access Denied"):
        asyncio.run(put(right))
    assert "Contents" not in s3._client.list_objects_v2(Bucket=bucket)
    asyncio.run(put())


# --- the server itself ----------------------------------------------------------------------------

REFUSED: Final[dict[str, tuple[str, Callable[[Client, str], Any]]]] = {
    "HeadObject": ("s3:GetObject", lambda c, b: c.head_object(Bucket=b, Key="k")),
    "GetObject": ("s3:GetObject", lambda c, b: c.get_object(Bucket=b, Key="k")),
    "DeleteObject": ("s3:DeleteObject", lambda c, b: c.delete_object(Bucket=b, Key="k")),
    "HeadBucket": ("s3:ListBucket", lambda c, b: c.head_bucket(Bucket=b)),
    "ListObjects": ("s3:ListBucket", lambda c, b: c.list_objects(Bucket=b)),
    "ListObjectsV2": ("s3:ListBucket", lambda c, b: c.list_objects_v2(Bucket=b, Prefix="k")),
    "ListParts": (
        "s3:ListMultipartUploadParts",
        lambda c, b: c.list_parts(Bucket=b, Key="k", UploadId="u"),
    ),
    "PutObject": (
        "s3:PutObjectTagging",
        lambda c, b: c.put_object(Bucket=b, Key="k", Body=b"x", Tagging="a=b"),
    ),
    "CreateMultipartUpload": (
        "s3:PutObjectTagging",
        lambda c, b: c.create_multipart_upload(Bucket=b, Key="k", Tagging="a=b"),
    ),
}
UNKNOWN_CALLS: Final[dict[str, Callable[[Client, str], Any]]] = {
    "CopyObject": lambda c, b: c.copy_object(Bucket=b, Key="k", CopySource=f"{b}/k"),
    "CreateBucket": lambda c, b: c.create_bucket(Bucket=f"{b}-more"),
    "DeleteBucket": lambda c, b: c.delete_bucket(Bucket=b),
    "DeleteObjects": lambda c, b: c.delete_objects(Bucket=b, Delete={"Objects": [{"Key": "k"}]}),
    "GetBucketPolicy": lambda c, b: c.get_bucket_policy(Bucket=b),
    "ListBuckets": lambda c, _: c.list_buckets(),
    "ListObjectVersions": lambda c, b: c.list_object_versions(Bucket=b),
}
ALLOWED: Final[dict[str, Callable[[Client, str], Any]]] = {
    "AbortMultipartUpload": lambda c, b: c.abort_multipart_upload(
        Bucket=b, Key="a b/k", UploadId=c.create_multipart_upload(Bucket=b, Key="a b/k")["UploadId"]
    ),
    "GetBucketLocation": lambda c, b: c.get_bucket_location(Bucket=b),
    "ListMultipartUploads": lambda c, b: c.list_multipart_uploads(Bucket=b, Prefix="a"),
    "PutObject": lambda c, b: c.put_object(Bucket=b, Key="a b/k", Body=b"x", ACL="private"),
}


def call(
    s3: S3Server,
    bucket: str,
    work: Callable[[Client, str], Any],
    access_key: str = "",
    at: str = "",
) -> tuple[ClientError | None, LeastPrivilege]:
    """Ask as somebody who may do what the policy for `bucket` says; at `at`, another bucket."""

    def ask(endpoint_url: str) -> ClientError | None:
        client = botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=endpoint_url,
            aws_access_key_id=access_key or s3.access_key,
            aws_secret_access_key=s3.secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )
        with contextlib.closing(client):
            try:
                work(client, at or bucket)
            except ClientError as error:
                return error
        return None

    async def scenario() -> tuple[ClientError | None, LeastPrivilege]:
        async with least_privilege(s3, policy_for(bucket)) as server:
            return await asyncio.to_thread(ask, server.endpoint_url), server

    return asyncio.run(scenario())


def is_denied(error: ClientError | None) -> bool:
    return error is not None and error.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize("operation", REFUSED)
def test_server_refuses_what_the_policy_does_not_allow(
    s3: S3Server, bucket: str, operation: str
) -> None:
    right, work = REFUSED[operation]
    error, server = call(s3, bucket, work)
    assert is_denied(error)
    assert server.allowed == set()
    assert server.refused == {operation}
    assert right in server.asked[0].rights


@pytest.mark.parametrize("operation", UNKNOWN_CALLS)
def test_server_refuses_what_it_does_not_know(s3: S3Server, bucket: str, operation: str) -> None:
    error, server = call(s3, bucket, UNKNOWN_CALLS[operation])
    assert is_denied(error)
    assert all(it.startswith(UNKNOWN) for it in server.refused)


@pytest.mark.parametrize("operation", ALLOWED)
def test_server_lets_through_what_the_policy_allows(
    s3: S3Server, bucket: str, operation: str
) -> None:
    error, server = call(s3, bucket, ALLOWED[operation])
    assert error is None
    assert operation in server.allowed
    assert server.refused == set()


def test_server_refuses_another_bucket(s3: S3Server, bucket: str) -> None:
    error, server = call(s3, bucket, ALLOWED["PutObject"], at=f"{bucket}-not")
    assert is_denied(error)
    assert server.refused == {"PutObject"}


def test_server_refuses_somebody_else(s3: S3Server, bucket: str) -> None:
    error, _ = call(s3, bucket, ALLOWED["PutObject"], access_key="somebody-else")
    assert is_denied(error)
