"""Smoke test in an AWS account: a bucket, a role, deliveries under `kill -9`, and nothing left.

    python -m tests.compat.aws --region REGION       (make smoke-aws REGION=...)

    caller ── makes, asks, removes ──────────> bucket, role
       └─ assumes ─> role ─ worker, check ───> bucket: what `stream-app policy` prints, no more

The caller is who the AWS tools find: environment, profile, role. Nothing is made before a person
has agreed. All that is made has the name of the run, and is removed at its end, also after a
failure or Ctrl-C; what cannot be removed is named with the command that does it.

Kafka is embedded, or the broker in STREAM_APP_KAFKA_BROKER with the login of those variables.
AWS_ENDPOINT_URL leads every call to a stand-in: so does `test_aws.py`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

import botocore.session
from aiokafka.errors import KafkaError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stream_app.config.parser import parse
from stream_app.embedded.servers import KafkaServer
from stream_app.errors import ConfigurationError, SetupError
from stream_app.kafka.connection import brokers, client_options
from tests.chaos.harness import Lab, wait_until
from tests.chaos.oracle import Target
from tests.compat.trial import (
    LARGE_BYTES,
    LARGE_EVENTS,
    SMALL_EVENTS,
    check_report,
    conformance,
)
from tests.steps import StepError, expect, step

PREFIX: Final = "stream-app-smoke"
CONNECT_SECONDS_MAX: Final = 10
READ_SECONDS_MAX: Final = 60
ATTEMPTS_MAX: Final = 5
"""Of one call of the caller's own."""
PROPAGATION_SECONDS_MAX: Final = 120.0
"""IAM and S3 know a new role and a new policy everywhere only after some seconds."""
PROPAGATION_POLL_SECONDS: Final = 2.0
REMOVAL_SECONDS_MAX: Final = 120.0
"""A request of a worker that was killed can still arrive, and the bucket is emptied again."""
SECONDS_MAX: Final = 180.0
"""From events to their receipts; two uploads of 14 MiB go over the caller's line."""
POLICY_SECONDS_MAX: Final = 60
SESSION_SECONDS: Final = 3600
"""Life of the role's credentials: the least that AWS takes as a role's maximum."""
SSE: Final = "AES256"
STORAGE_CLASS: Final = "INTELLIGENT_TIERING"
"""No other class than the default is without a least time that is charged."""
TAGS: Final = {"team": "orders", "retention": "7 years"}
CONNECTION_VARIABLES: Final = ("BROKER", "SECURITY_", "SSL_", "SASL_")
"""Beginnings of those of STREAM_APP_KAFKA_ that a run takes: names of topics and group are its
own."""
REPLICATION_FACTOR_MAX: Final = 3
"""Of topics at several brokers, which want more than one copy."""
GONE: Final = frozenset({"NoSuchBucket", "NoSuchEntity"})
FAILURES: Final = (BotoCoreError, ClientError, StepError)
"""Of calls to AWS."""
OTHER_FAILURES: Final = (
    *(AssertionError, ConfigurationError, KafkaError, SetupError, subprocess.TimeoutExpired),
)


class Made(NamedTuple):
    """Thing in the account that is to be removed."""

    what: str
    remove: Callable[[], None]
    command: str
    """Of the AWS tool, for a person."""


class Account:
    """The caller's account.

    Args:
        region: Region of the bucket.
        name: Name of bucket and role.
    """

    def __init__(self, region: str, name: str) -> None:
        session = botocore.session.get_session()
        config = Config(
            connect_timeout=CONNECT_SECONDS_MAX,
            read_timeout=READ_SECONDS_MAX,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS_MAX},
        )
        self.s3, self._iam, sts = (
            session.create_client(it, region_name=region, config=config)
            for it in ("s3", "iam", "sts")
        )
        identity = sts.get_caller_identity()
        self.number: str = identity["Account"]
        self.caller: str = identity["Arn"]
        self.name = name
        self._region = region
        self._made: list[Made] = []

    def make_bucket(self) -> None:
        """Create the bucket; it is removed even if the response was lost."""
        command = f"aws s3 rb --force s3://{self.name}"
        self._made.append(Made(f"bucket {self.name}", self._remove_bucket, command))
        # The oldest region is the one that cannot be named.
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        self.s3.create_bucket(
            Bucket=self.name, **({} if self._region == "us-east-1" else elsewhere)
        )

    def make_role(self, external_id: str) -> str:
        """Create a role without rights, which the caller may assume; return its ARN."""
        command = f"aws iam delete-role --role-name {self.name}"
        self._made.append(Made(f"role {self.name}", self._remove_role, command))
        trust = {
            "Effect": "Allow",
            "Principal": {"AWS": self.caller},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
        }
        created = self._iam.create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
            Description="Smoke test of stream-app; can be removed",
            MaxSessionDuration=SESSION_SECONDS,
        )
        return str(created["Role"]["Arn"])

    def attach(self, policy: str) -> None:
        """Make it the bucket's policy, as soon as S3 knows the role that it names."""

        def is_taken() -> bool:
            try:
                self.s3.put_bucket_policy(Bucket=self.name, Policy=policy)
            except ClientError as error:
                if _code(error) == "MalformedPolicy":
                    return False
                raise
            return True

        await_true(is_taken, PROPAGATION_SECONDS_MAX, "S3 takes the policy")

    def empty(self) -> None:
        """Abort all uploads in parts, and delete all objects."""
        uploads = self.s3.get_paginator("list_multipart_uploads").paginate(Bucket=self.name)
        for page in uploads:
            for it in page.get("Uploads", []):
                self.s3.abort_multipart_upload(
                    Bucket=self.name, Key=it["Key"], UploadId=it["UploadId"]
                )
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name):
            keys = [{"Key": it["Key"]} for it in page.get("Contents", [])]
            if keys:
                done = self.s3.delete_objects(
                    Bucket=self.name, Delete={"Objects": keys, "Quiet": True}
                )
                expect(not done.get("Errors"), f"objects stay: {done.get('Errors')}")

    def remove(self) -> list[str]:
        """Remove all that was made, in the opposite order; return what may be left."""
        left = []
        for it in reversed(self._made):
            try:
                it.remove()
            except FAILURES as error:
                if not (isinstance(error, ClientError) and _code(error) in GONE):
                    left.append(f"{it.what}: {error}; remove it with: {it.command}")
        return left

    def _remove_bucket(self) -> None:
        def is_removed() -> bool:
            self.empty()
            try:
                self.s3.delete_bucket(Bucket=self.name)
            except ClientError as error:
                if _code(error) == "BucketNotEmpty":
                    return False
                raise
            return True

        await_true(is_removed, REMOVAL_SECONDS_MAX, "the bucket is empty")

    def _remove_role(self) -> None:
        self._iam.delete_role(RoleName=self.name)


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def await_true(condition: Callable[[], bool], seconds_max: float, what: str) -> None:
    """Return once the condition holds; fail, saying `what` was missing, when it does not."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        expect(time.monotonic() < deadline, f"not within {seconds_max:.0f} s: {what}")
        time.sleep(PROPAGATION_POLL_SECONDS)


def targets(account: Account, role: tuple[str, str] | None) -> tuple[Target, Target]:
    """Return two destinations with all options that a new bucket of AWS takes.

    Args:
        account: Of the bucket.
        role: ARN and external id; None: the caller's own identity.
    """
    tags = ", ".join(f'{name} = "{text}"' for name, text in TAGS.items())
    lines = [
        f'expected_bucket_owner = "{account.number}"',
        f'sse = "{SSE}"',
        f'storage_class = "{STORAGE_CLASS}"',
        f"tags = {{ {tags} }}",
        # The only one that a bucket takes whose ACLs are off, as those of new buckets are.
        'acl = "bucket-owner-full-control"',
    ]
    if role is not None:
        lines += [f'role_arn = "{role[0]}"', f'external_id = "{role[1]}"']
    settings = "\n".join(lines)
    return (
        Target("small", "small/", payload="{ id: $event.id }", settings=settings),
        Target("parts", "parts/", settings=settings),
    )


def printed_policy(lab: Lab, principal: str | None) -> str:
    """Return what `stream-app policy` prints."""
    command = [sys.executable, "-m", "stream_app", "policy", "--config", str(lab.configuration)]
    done = subprocess.run(
        [*command, *(() if principal is None else ("--principal", principal))],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=POLICY_SECONDS_MAX,
        check=False,
    )
    expect(done.returncode == 0, f"stream-app policy: {done.stderr}")
    return done.stdout


def check_rights(lab: Lab) -> None:
    """Wait until `check` finds each destination writable."""
    found: list[Any] = []

    def are_writable() -> bool:
        report = check_report(lab.configuration)
        found[:] = [it for it in report if it["kind"] in {"destination", "mistake"}]
        return all(it.get("writable") for it in found)

    try:
        await_true(are_writable, PROPAGATION_SECONDS_MAX, "every destination is writable")
    except StepError as error:
        raise StepError(f"{error}: {found}") from error


async def deliver(lab: Lab, account: Account, left: list[str]) -> None:
    """Deliver a small object and one in parts, then more; note the topics that are left.

    A worker is killed when S3 has confirmed both objects and no receipt is published: the topic
    takes none. The next one finds them by `If-None-Match` (412).
    """
    async with lab:
        try:
            with step("Kafka, as check finds it"):
                wrong = [it for it in check_report(lab.configuration) if it.get("problems")]
                expect(not wrong, f"check: {wrong}")
            with step("deliver, and kill -9 between upload and receipt") as found:
                await _deliver_and_kill(lab)
            with step("the next worker finds both objects, and goes on") as found:
                await _recover(lab)
                found.extend(it.value["object"]["key"] for it in lab.receipts if it.value["object"])
            with step("options of the objects") as found:
                found.extend(_check_options(lab, account))
        finally:
            left += await _topics_left(lab)


async def _deliver_and_kill(lab: Lab) -> None:
    await lab.limit_receipts(1)
    worker = await lab.start_worker()
    lab.load.at_ms = int(time.time() * 1000)  # all in one window
    await lab.load.send(LARGE_EVENTS, bulk_bytes=LARGE_BYTES)
    lab.load.at_ms = None
    await wait_until(
        lambda: all(f" lines at s3://{lab.bucket}/{it.prefix}" in worker.log for it in lab.targets),
        SECONDS_MAX,
        "S3 has confirmed both objects",
    )
    expect(await lab.read_receipts() == [], "there is a receipt already")
    worker.kill()
    await lab.limit_receipts(None)


async def _recover(lab: Lab) -> None:
    worker = await lab.start_worker()
    await lab.settled(SECONDS_MAX)
    found_again = {it.key for it in await lab.read_receipts() if it.value["already_existed"]}
    expect(
        found_again == {it.id for it in lab.targets},
        f"not both are found again: {[it.value for it in lab.receipts]}",
    )
    await lab.load.send(SMALL_EVENTS)
    await lab.settled(SECONDS_MAX)
    await worker.terminate()
    await lab.verify()


def _check_options(lab: Lab, account: Account) -> Iterator[str]:
    for key in sorted(lab.keys()):
        head = account.s3.head_object(Bucket=lab.bucket, Key=key)
        tagging = account.s3.get_object_tagging(Bucket=lab.bucket, Key=key)
        tags = {it["Key"]: it["Value"] for it in tagging["TagSet"]}
        kept = head.get("ServerSideEncryption"), head.get("StorageClass"), tags
        expect(kept == (SSE, STORAGE_CLASS, TAGS), f"{key} has {kept}")
        yield f"{key}: {head['ContentLength']} bytes, {', '.join(map(str, kept))}"


async def _topics_left(lab: Lab) -> list[str]:
    try:
        await lab.delete_topics()
    except KafkaError as error:
        return [f"topics {lab.events_topic} and {lab.receipts_topic}: {error!r}"]
    return []


def walk(lab: Lab, account: Account, left: list[str], *, own_identity: bool) -> None:
    """Make everything, try everything; note the topics that are left.

    Raises:
        StepError: AWS does not do what deliveries rely on.
    """
    role = None
    with step(f"make bucket{'' if own_identity else ' and role'} {account.name}"):
        account.make_bucket()
        if not own_identity:
            external_id = uuid4().hex
            role = account.make_role(external_id), external_id
    lab.targets = targets(account, role)
    lab.configure()
    with step("attach the policy that stream-app policy prints") as found:
        policy = printed_policy(lab, account.caller if role is None else None)
        found.extend(policy.splitlines())
        account.attach(policy)
    with step("the policy suffices"):
        check_rights(lab)
    with step("stream-app check --conformance") as found:
        verdicts = conformance(check_report(lab.configuration, "--conformance"))
        found.extend(f"{name}: {it['result']}: {it['found']}" for name, it in verdicts.items())
        account.empty()  # what the role may not remove
    asyncio.run(deliver(lab, account, left))
    faults = [name for name, it in verdicts.items() if it["result"] == "failed"]
    expect(verdicts and not faults, f"check --conformance: failed: {', '.join(faults) or 'all'}")


class Broker(NamedTuple):
    """Kafka of a run."""

    address: str
    options: dict[str, Any]
    """Of clients: the login."""
    replication_factor: int


def named_broker(environment: Mapping[str, str]) -> Broker | None:
    """Return the broker that the environment names; None: it names none.

    Raises:
        SetupError: It cannot be reached.
        StepError: A variable would give the run another name or option than its own.
    """
    begin = "STREAM_APP_KAFKA_"
    taken = tuple(f"{begin}{it}" for it in CONNECTION_VARIABLES)
    is_named = f"{begin}BROKER" in environment
    others = [
        it
        for it in environment
        if it.startswith("STREAM_APP_") and not (is_named and it.startswith(taken))
    ]
    expect(not others, f"unset {', '.join(sorted(others))}: a run has settings of its own")
    if not is_named:
        return None
    kafka = parse('[[destinations]]\nid = "a"\nbucket = "any"\n', environment, "the run").kafka
    factor = min(REPLICATION_FACTOR_MAX, len(asyncio.run(brokers(kafka))))
    return Broker(kafka.broker.removeprefix("kafka://"), client_options(kafka), factor)


@contextlib.contextmanager
def running(named: Broker | None) -> Iterator[Broker]:
    """Give the broker that the environment names, or an embedded one."""
    if named is not None:
        yield named
        return
    with KafkaServer() as kafka:
        yield Broker(kafka.address, {}, 1)


def agree(account: Account, *, own_identity: bool) -> None:
    """Show what a run does; a person has to agree.

    Raises:
        StepError: Nobody has.
    """
    role = "" if own_identity else f" and the role {account.name}, which you may assume"
    print(
        f"As {account.caller}, this makes the bucket {account.name}{role}, writes less than "
        "100 MiB in fewer than 1,000 requests (some 0.01 USD), and removes all of it."
    )
    try:
        print("Go on? [y/N]", flush=True)
        answer = input()
    except EOFError:
        answer = ""
    expect(answer.strip().lower() in {"y", "yes"}, "nothing was made")


def run(arguments: argparse.Namespace) -> None:
    """Run the smoke test.

    Raises:
        StepError: A step failed, or something may be left.
    """
    own_identity = bool(arguments.own_identity)
    named = named_broker(os.environ)
    name = f"{arguments.bucket_prefix}-{uuid4().hex[:12]}"
    account = Account(arguments.region, name)
    expect(
        own_identity or not account.caller.endswith(":root"),
        "an account's root cannot assume a role: be a user or role, or use --own-identity",
    )
    if not arguments.yes:
        agree(account, own_identity=own_identity)
    left: list[str] = []
    with tempfile.TemporaryDirectory() as folder, running(named) as broker:
        lab = Lab(
            broker.address,
            None,
            Path(folder),
            partitions=1,
            client_options=broker.options,
            replication_factor=broker.replication_factor,
            region=arguments.region,
            workers_may_read=own_identity,
            name=name,
        )
        try:
            walk(lab, account, left, own_identity=own_identity)
        finally:
            for it in (signal.SIGINT, signal.SIGTERM):
                signal.signal(it, signal.SIG_IGN)
            with step("remove all of it") as found:
                left += account.remove()
                found.extend(f"left: {it}" for it in left)
    expect(not left, "not everything is removed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--region", required=True, help="region of the bucket")
    parser.add_argument("--bucket-prefix", default=PREFIX, help="beginning of all names")
    parser.add_argument(
        "--own-identity",
        action="store_true",
        help="no role: the caller delivers, with the rights that he has anyway",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    # As Ctrl-C: what was made is removed.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    began = time.monotonic()
    try:
        run(parser.parse_args())
    except (*FAILURES, *OTHER_FAILURES) as failure:
        sys.exit(f"failed: {failure}")
    except KeyboardInterrupt:
        sys.exit("interrupted")
    print(f"all of it in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
