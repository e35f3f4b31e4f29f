"""`make smoke-aws` at a stand-in: moto is AWS, and the role may do what the bucket's policy allows.

smoke test ─┬─ caller's requests ────────────────────────> moto: S3, IAM, STS
            └─ role's requests ─> policy that was put ───> moto
                                          └─refused─> 403 AccessDenied
"""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import botocore.session
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from stream_app.embedded.servers import KafkaServer
from tests.chaos.harness import ROOT
from tests.compat.aws import PREFIX, named_broker
from tests.compat.stores import Store, new_store
from tests.contract.recorder import Answer, Recorder, Relay, Request, recorder
from tests.least_privilege import DENIED, PARAMETERS, UNKNOWN, Policy, classify
from tests.steps import StepError

REGION: Final = "eu-central-1"
SECONDS_MAX: Final = 300.0
MOTOS_FAULTS: Final = {"concurrent-completes", "checksum-put", "checksum-part"}
"""As docs/compatibility.md has them."""
MOTOS_LOST_OPTIONS: Final = {"expected_bucket_owner"}
CALLS_OF_IAM: Final = {"GetCallerIdentity", "CreateRole", "AssumeRole", "DeleteRole"}
CALLS_OF_THE_CALLER: Final = {
    "PUT bucket",
    "PUT bucket?policy",
    "GET bucket?uploads",
    "GET bucket",
    "POST bucket?delete",
    "DELETE bucket",
    "GET key",
    "HEAD key",
    "GET key?tagging",
}


@pytest.fixture(scope="module")
def moto() -> Iterator[Store]:
    server = new_store("moto")
    assert isinstance(server, Store)
    with server:
        yield server


@dataclass
class StandIn:
    """AWS as a run sees it."""

    moto: Store
    server: Recorder = field(default_factory=lambda: Recorder(()))
    role_operations: Counter[str] = field(default_factory=Counter)
    refused: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)
    on_request: Callable[[str], None] = lambda _: None
    """Called with each call of the caller to S3, before it is done."""
    denied: frozenset[str] = frozenset()
    """Calls of the caller that are refused."""

    def judge(self, request: Request) -> Answer:
        if not self._is_callers(request):
            return self._judge_role(request)
        call = call_of(request)
        self.on_request(call)
        return DENIED if call in self.denied else Relay(self.moto.port)

    def _is_callers(self, request: Request) -> bool:
        credential = f"Credential={self.moto.access_key}/"
        return credential in request.headers.get("authorization", "")

    def _judge_role(self, request: Request) -> Answer:
        operation, rights, resource = classify(request)
        operation = operation if UNKNOWN not in operation else call_of(request)
        self.role_operations[operation] += 1
        if not rights or not all(self.policy.allows(it, resource) for it in rights):
            self.refused.add(operation)
            return DENIED
        self.used |= rights
        return Relay(self.moto.port)

    @property
    def policies(self) -> list[str]:
        return [
            it.body.decode()
            for it in self.server.requests
            if self._is_callers(it) and call_of(it) == "PUT bucket?policy"
        ]

    @property
    def policy(self) -> Policy:
        return Policy.parse(self.policies[-1])

    @property
    def calls(self) -> set[str]:
        """The caller's calls to S3."""
        return {
            call_of(it) for it in self.server.requests if self._is_callers(it) and not action_of(it)
        }

    @property
    def actions(self) -> list[dict[str, str]]:
        """The calls to IAM and STS, with their parameters."""
        return [found for it in self.server.requests if (found := action_of(it))]

    def client(self, service: str) -> Any:
        """Return a client of moto itself, with all rights."""
        return botocore.session.get_session().create_client(
            service,
            region_name=REGION,
            endpoint_url=self.moto.endpoint_url,
            aws_access_key_id=self.moto.access_key,
            aws_secret_access_key=self.moto.secret_key,
        )

    def left(self) -> list[str]:
        """What stands in the account."""
        buckets = self.client("s3").list_buckets()["Buckets"]
        roles = self.client("iam").list_roles()["Roles"]
        return [it["Name"] for it in buckets] + [it["RoleName"] for it in roles]


def call_of(request: Request) -> str:
    """Return method, whether a key is named, and subresource of a request to S3."""
    parts = urlsplit(request.target)
    _, _, key = parts.path.removeprefix("/").partition("/")
    query = sorted(frozenset(parse_qs(parts.query, keep_blank_values=True)) - PARAMETERS)
    names = "&".join(it for it in query if it != "list-type")
    return f"{request.method} {'key' if key else 'bucket'}{f'?{names}' if names else ''}"


def action_of(request: Request) -> dict[str, str]:
    """Return the parameters of a request to IAM or STS; empty for one to S3."""
    if request.target != "/" or request.method != "POST":
        return {}
    return {name: texts[0] for name, texts in parse_qs(request.body.decode()).items()}


@asynccontextmanager
async def stand_in(moto: Store) -> AsyncIterator[StandIn]:
    aws = StandIn(moto)
    async with recorder(rule=aws.judge, seconds_max=SECONDS_MAX) as aws.server:
        yield aws


async def start(aws: StandIn, kafka: KafkaServer, *options: str) -> asyncio.subprocess.Process:
    """Start the smoke test, with `aws` as AWS and a broker that it has not started."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("AWS_", "STREAM_APP_"))
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.compat.aws", "--region", REGION, *options),
        cwd=ROOT,
        env={
            **kept,
            **aws.moto.environment,
            "AWS_ENDPOINT_URL": aws.server.endpoint_url,
            "STREAM_APP_KAFKA_BROKER": f"kafka://{kafka.address}",
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def output(process: asyncio.subprocess.Process) -> str:
    printed, _ = await process.communicate()
    return printed.decode()


async def topics(kafka: KafkaServer) -> set[str]:
    async with asyncio.timeout(SECONDS_MAX):
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
        await admin.start()
        try:
            return set(await admin.list_topics())
        finally:
            await admin.close()


def test_run_delivers_with_the_printed_policy_alone_and_leaves_nothing(
    kafka: KafkaServer, moto: Store
) -> None:
    async def scenario() -> None:
        async with stand_in(moto) as aws:
            process = await start(aws, kafka, "--yes")
            printed = await output(process)
            print(printed, f"{len(aws.server.requests)} requests", aws.role_operations, sep="\n")
            # All is tried before the faults of the conformance check end the run.
            *_, last = printed.splitlines()
            what, _, faults = last.rpartition(": ")
            assert (what, process.returncode) == ("failed: check --conformance: failed", 1)
            assert {"checksum-put", "checksum-part"} <= set(faults.split(", "))
            assert set(faults.split(", ")) <= MOTOS_FAULTS | MOTOS_LOST_OPTIONS

            by_action = {it["Action"]: it for it in aws.actions}
            assert by_action.keys() == CALLS_OF_IAM
            assert aws.calls == CALLS_OF_THE_CALLER
            trust = json.loads(by_action["CreateRole"]["AssumeRolePolicyDocument"])["Statement"]
            external_id = trust[0]["Condition"]["StringEquals"]["sts:ExternalId"]
            assert by_action["AssumeRole"]["ExternalId"] == external_id
            assert by_action["AssumeRole"]["RoleArn"] in aws.policies[-1]
            assert aws.used == aws.policy.actions
            assert aws.refused == {"HeadObject", "DeleteObject", "GET key?acl", "GET key?tagging"}
            assert aws.role_operations["CompleteMultipartUpload"] > 0
            assert len(aws.server.requests) < 1_000
            assert sum(len(it.body) for it in aws.server.requests) < 100 * 2**20
            assert aws.left() == []
        assert [it for it in await topics(kafka) if it.startswith(PREFIX)] == []

    asyncio.run(scenario())


def test_interrupted_run_removes_what_it_has_made(kafka: KafkaServer, moto: Store) -> None:
    async def scenario() -> None:
        async with stand_in(moto) as aws:
            process = await start(aws, kafka, "--yes")

            def interrupt(call: str) -> None:
                if call == "PUT bucket?policy":
                    process.send_signal(signal.SIGTERM)

            aws.on_request = interrupt
            printed = await output(process)
            assert (printed.splitlines()[-1], process.returncode) == ("interrupted", 1)
            assert {"CreateRole", "DeleteRole"} <= {it["Action"] for it in aws.actions}
            assert aws.left() == []

    asyncio.run(scenario())


def test_failed_run_names_what_it_could_not_remove(kafka: KafkaServer, moto: Store) -> None:
    async def scenario() -> None:
        async with stand_in(moto) as aws:
            aws.denied = frozenset({"PUT bucket?policy", "DELETE bucket"})
            process = await start(aws, kafka, "--yes", "--own-identity")
            printed = await output(process)
            (bucket,) = aws.left()
            assert {it["Action"] for it in aws.actions} == {"GetCallerIdentity"}
            assert f"  left: bucket {bucket}: " in printed
            assert f"aws s3 rb --force s3://{bucket}" in printed
            assert printed.splitlines()[-1].startswith("failed: An error occurred (AccessDenied)")
            aws.client("s3").delete_bucket(Bucket=bucket)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "environment",
    [
        {"STREAM_APP_KAFKA_BROKER": "kafka://a:9092", "STREAM_APP_KAFKA_GROUP": "orders"},
        {"STREAM_APP_KAFKA_SASL_USERNAME": "without a broker"},
    ],
)
def test_run_refuses_settings_that_are_not_its_own(environment: dict[str, str]) -> None:
    with pytest.raises(StepError, match=list(environment)[-1]):
        named_broker(environment)


def test_run_makes_nothing_before_somebody_has_agreed(kafka: KafkaServer, moto: Store) -> None:
    async def scenario() -> None:
        async with stand_in(moto) as aws:
            process = await start(aws, kafka)
            printed = await output(process)
            assert (printed.splitlines()[-1], process.returncode) == ("failed: nothing was made", 1)
            assert "0.01 USD" in printed
            assert [it["Action"] for it in aws.actions] == ["GetCallerIdentity"]
            assert aws.calls == set()

    asyncio.run(scenario())
