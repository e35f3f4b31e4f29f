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

from stream_app.config.settings import S3, Destination, Kafka
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.errors import PermanentError
from stream_app.kafka.topics import create_topics
from stream_app.s3.body import MULTIPART_BYTES
from stream_app.s3.bucket_policy import bucket_policy
from stream_app.s3.storage import Storage
from tests.chaos.harness import Lab, in_a_loop, wait_until
from tests.chaos.oracle import Published, Target
from tests.chaos.s3_proxy import Fault, Request, Rule
from tests.least_privilege import UNKNOWN, LeastPrivilege, Policy, least_privilege
from tests.s3_client import s3_client

PRINCIPAL: Final = "arn:aws:iam::123456789012:role/stream-app"
SURVIVED: Final = {"HeadObject"}
"""Optional right, documented as such: HeadObject on an object that exists."""
NO_REQUEST: Final = {"s3:ListBucketMultipartUploads"}
"""Of the five actions of `--whole-bucket`: for people who look for what was left unfinished."""
ACL_VALUE: Final = "bucket-owner-full-control"
ACL: Final = f'acl = "{ACL_VALUE}"'
EVENT_BYTES: Final = 600_000
SECONDS_MAX: Final = 120.0

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


@pytest.fixture
def kafka_table(kafka: KafkaServer, topic_prefix: str) -> str:
    """Return the table of a Kafka that has all that a worker needs."""
    names = {name: f"{topic_prefix}{name}" for name in ("events_topic", "receipts_topic", "group")}
    settings = Kafka(broker=f"kafka://{kafka.address}", **names)
    asyncio.run(create_topics(settings, partitions=1, replication_factor=1))
    lines = [f'{name} = "{text}"' for name, text in {"broker": settings.broker, **names}.items()]
    return "\n".join(["[kafka]", *lines])


def configure(
    folder: Path,
    bucket: str,
    options: str = "",
    endpoint_url: str = "http://127.0.0.1:9",
    kafka: str = "",
) -> Path:
    file = folder / "stream_app.toml"
    file.write_text(
        f"""
        {kafka}
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
    folder: Path, s3: S3Server, bucket: str, policy: Policy, options: str, kafka: str
) -> tuple[int, str, LeastPrivilege]:
    """Run `stream-app check` under a policy."""
    async with least_privilege(s3, policy) as server:
        configuration = configure(folder, bucket, options, server.endpoint_url, kafka)
        status, output = await run(folder, s3, "check", "--config", configuration.name)
    return status, output, server


def archive(bucket: str, **options: Any) -> Destination:
    """Return the destination of `configure`."""
    return Destination("archive", bucket, prefix="archive/", **options)


def policy_for(destination: Destination, *, without: Collection[str] = ()) -> Policy:
    """Return what `stream-app policy` prints, without some of its actions."""
    return Policy.parse(bucket_policy([destination], PRINCIPAL)).without(*without)


def five_actions(bucket: str) -> Policy:
    """Return what `stream-app policy --whole-bucket` prints."""
    return Policy.parse(bucket_policy([archive(bucket)], PRINCIPAL, whole_bucket=True))


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
            # The one thing in a receipt that only a look could show.
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
        (receipt,) = await lab.published(1)
        assert (receipt.value["status"], receipt.value["already_existed"]) == ("delivered", True)
        (stored,) = lab.objects()
        assert len(stored.body) > MULTIPART_BYTES
        assert gzip.decompress(stored.body).splitlines() == sent
        assert server.refused == SURVIVED
        assert server.used == policy.actions
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


@pytest.mark.parametrize("acl", [None, ACL_VALUE], ids=["plain", "with an ACL"])
def test_check_passes(
    s3: S3Server, bucket: str, tmp_path: Path, acl: str | None, kafka_table: str
) -> None:
    options = "" if acl is None else ACL
    policy = asyncio.run(documented(configure(tmp_path, bucket, options), s3))
    assert policy == policy_for(archive(bucket, acl=acl))
    status, output, server = asyncio.run(check(tmp_path, s3, bucket, policy, options, kafka_table))
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
    s3: S3Server, bucket: str, tmp_path: Path, right: str, options: str, kafka_table: str
) -> None:
    acl = ACL_VALUE if options else None
    policy = policy_for(archive(bucket, acl=acl), without=[right])
    status, output, server = asyncio.run(check(tmp_path, s3, bucket, policy, options, kafka_table))
    assert status == 1
    assert re.findall(r"(s3:\w+) is missing", output) == [right]
    assert all(right in it.rights for it in server.asked if not it.is_allowed)


# --- every request --------------------------------------------------------------------------------


async def every_request(
    s3: S3Server, policy: Policy, destination: Destination, folder: str
) -> LeastPrivilege:
    """Send what workers and `check` send to one destination, as far as the policy lets them.

    The folder is one of its own for each call: for a key that exists a worker would look at it.
    """

    async def put(storage: Storage, name: str, content: bytes) -> None:
        key = f"{destination.prefix}{folder}/{name}"
        await storage.put(destination, key, content, lines=1, size=len(content))

    async def abort(storage: Storage) -> None:
        key = f"{destination.prefix}{folder}/aborted"
        upload_id = await storage.begin(destination, key)
        await storage.abort_upload(destination, key, upload_id)

    async with (
        least_privilege(s3, policy) as server,
        Storage(S3(endpoint_url=server.endpoint_url)) as storage,
    ):
        for request in (
            storage.location(destination),
            put(storage, "small", b"small"),
            put(storage, "large", bytes(MULTIPART_BYTES + 1)),
            abort(storage),
        ):
            with contextlib.suppress(PermanentError):
                await request
    return server


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"acl": ACL_VALUE, "tags": (("team", "orders"),), "conditional_writes": False},
    ],
    ids=["plain", "with all options"],
)
def test_every_action_of_the_least_policy_is_needed(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    destination = archive(bucket, **options)
    policy = policy_for(destination)
    assert len(policy.actions) == 3 + len(options)
    for action in sorted(policy.actions):
        server = asyncio.run(every_request(s3, policy.without(action), destination, action))
        rights = [it.rights for it in server.asked if not it.is_allowed]
        assert rights, f"nothing needs {action}"
        assert all(action in it for it in rights)
    server = asyncio.run(every_request(s3, policy, destination, "all"))
    assert server.refused == set()
    assert server.used == policy.actions
    with s3_client(s3) as client:
        listed = client.list_objects_v2(Bucket=bucket, Prefix="archive/all/")["Contents"]
    stored = {it["Key"].rpartition("/")[2]: it["Size"] for it in listed}
    assert stored == {"small": 5, "large": MULTIPART_BYTES + 1}


def test_five_actions_are_more_than_any_request_needs(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    policy = five_actions(bucket)
    server = asyncio.run(every_request(s3, policy, archive(bucket, acl=ACL_VALUE), "all"))
    assert server.refused == set()
    assert policy.actions - server.used == NO_REQUEST


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
        async with least_privilege(s3, five_actions(bucket)) as server:
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
