"""Where requests have the bucket's name, and names that are not those of general purpose buckets.

storage ──> HTTP_PROXY: a recorder, which sees each request with the host that it is for
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest

from stream_app.config.settings import S3, Delivery, Destination, Kafka, Settings
from stream_app.errors import DeliveryError, PermanentError, TransientError
from stream_app.s3.access_check import check_buckets
from stream_app.s3.clients import access_to
from stream_app.s3.storage import Storage
from tests.contract.recorder import (
    COMPLETED,
    CREATED,
    DONE,
    LOCATED,
    Answer,
    Request,
    Rule,
    answer,
    recorder,
    refusal,
)

ENDPOINT = "http://oss.example.com"
HOST = "oss.example.com"
TO = Destination("d", "my-bucket")
KEY = "test/2026/11/24/16/2026-11-24-16-31-02-0123.gz"
ALIAS = "orders-ap-abcdefghijklmnopqrstuvwxyz0123456789a-s3alias"
DIRECTORY = "my-bucket--use1-az4--x-s3"

NO_PATH_STYLE = refusal("403 Forbidden", "SecondLevelDomainForbidden")
ABSENT = answer("404 Not Found")

Style = Literal["path", "virtual"] | None
Work = Callable[[Storage], Awaitable[Any]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAMADEUPMADEUPMADE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_CONFIG_FILE", "nowhere")
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)


def respond(request: Request) -> Answer:
    """Respond as a server does that takes virtual-hosted requests only."""
    if request.headers["host"] == HOST:
        return NO_PATH_STYLE
    query = request.target.partition("?")[2]
    if request.method == "POST":
        return CREATED if query == "uploads" else COMPLETED
    if request.method == "GET":
        return session() if query == "session" else LOCATED
    if request.method == "HEAD":
        return DONE if request.target.endswith(f"{HOST}/") else ABSENT
    return DONE


def session(seconds: float = 300) -> Answer:
    expiration = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return answer(
        "200 OK",
        "<CreateSessionResult><Credentials><AccessKeyId>SESSIONKEY</AccessKeyId>"
        "<SecretAccessKey>made-up</SecretAccessKey><SessionToken>the-token</SessionToken>"
        f"<Expiration>{expiration}</Expiration></Credentials></CreateSessionResult>",
    )


def through_proxy(
    s3: S3, work: Work, monkeypatch: pytest.MonkeyPatch, rule: Rule = respond
) -> list[Request]:
    """Let the storage do the work; return its requests, which have the whole URL as target."""

    async def scenario() -> list[Request]:
        async with recorder(rule=rule) as proxy:
            for name in ("HTTP_PROXY", "http_proxy"):
                monkeypatch.setenv(name, proxy.endpoint_url)
            async with Storage(s3) as storage:
                await work(storage)
        return proxy.requests

    return asyncio.run(scenario())


def writes(destination: Destination) -> Work:
    """Write as a worker does: whole, in parts, and with a look before."""

    async def work(storage: Storage) -> None:
        await storage.put(destination, KEY, b"content", lines=2, size=18)
        upload_id = await storage.begin(destination, KEY)
        sent: dict[int, Any] = {}
        await storage.send(destination, KEY, upload_id, [(1, b"part")], sent.__setitem__)
        await storage.complete(
            *(destination, KEY, upload_id, [sent[1]]),
            lines=2,
            size=18,
            size_compressed=4,
            sha256="",
        )
        careful = replace(destination, conditional_writes=False)
        await storage.put(careful, KEY, b"content", lines=2, size=18)

    return work


def urls(requests: Sequence[Request]) -> set[str]:
    return {request.target.partition("?")[0] for request in requests}


@pytest.mark.parametrize(
    ("s3", "destination"),
    [("virtual", None), ("path", "virtual"), (None, "virtual")],
)
def test_server_that_takes_virtual_hosts_only_is_written_to(
    s3: Style, destination: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = through_proxy(
        S3(endpoint_url=ENDPOINT, addressing_style=s3),
        writes(replace(TO, addressing_style=destination)),
        monkeypatch,
    )
    assert [it.method for it in requests] == ["PUT", "POST", "PUT", "POST", "HEAD", "PUT"]
    assert urls(requests) == {f"http://my-bucket.{HOST}/{KEY}"}
    assert {it.headers["host"] for it in requests} == {f"my-bucket.{HOST}"}


@pytest.mark.parametrize(("s3", "destination"), [(None, None), ("virtual", "path")])
def test_path_style_is_the_default_of_an_endpoint(
    s3: Style, destination: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[PermanentError] = []

    async def work(storage: Storage) -> None:
        with pytest.raises(PermanentError) as caught:
            await writes(replace(TO, addressing_style=destination))(storage)
        refused.append(caught.value)

    requests = through_proxy(S3(endpoint_url=ENDPOINT, addressing_style=s3), work, monkeypatch)
    assert urls(requests) == {f"http://{HOST}/my-bucket/{KEY}"}
    assert refused[0].code == "SecondLevelDomainForbidden"


@pytest.mark.parametrize(
    ("style", "bucket", "host"),
    [
        (None, "my-bucket", "my-bucket.s3"),
        ("virtual", "my-bucket", "my-bucket.s3"),
        ("path", "my-bucket", "s3"),
        (None, "my.bucket", "s3"),  # No certificate is for a name with another dot.
        (None, ALIAS, f"{ALIAS}.s3"),
        ("virtual", ALIAS, f"{ALIAS}.s3"),
    ],
)
def test_aws_is_addressed_as_it_recommends_unless_the_settings_say_otherwise(
    style: Style, bucket: str, host: str
) -> None:
    hosts: list[str] = []

    def note(request: Any, **_: object) -> None:
        hosts.append(urlsplit(request.url).hostname or "")
        raise OSError("not sent")

    async def scenario() -> None:
        destination = replace(TO, bucket=bucket)
        async with Storage(S3("eu-west-1", addressing_style=style)) as storage:
            clients = storage.clients
            with await clients._opened(clients.access(destination)) as client:
                client.meta.events.register_first("before-send.s3", note)
            with pytest.raises(TransientError):
                await storage.put(destination, KEY, b"content", lines=2, size=18)

    asyncio.run(scenario())
    assert hosts == [f"{host}.eu-west-1.amazonaws.com"]


def test_style_is_part_of_what_a_client_is_for() -> None:
    s3 = S3(endpoint_url=ENDPOINT)
    others = [replace(TO, addressing_style=it) for it in ("path", "virtual")]  # type: ignore[arg-type] # a choice
    assert len({access_to(it, s3) for it in others}) == 2
    assert access_to(TO, s3) == access_to(others[0], s3)


# --- check ----------------------------------------------------------------------------------------


def problems(
    s3: S3, destination: Destination, monkeypatch: pytest.MonkeyPatch, rule: Rule = respond
) -> tuple[list[str], list[Request]]:
    """Return the findings of a check, and its requests."""

    async def scenario() -> tuple[list[str], list[Request]]:
        async with recorder(rule=rule) as proxy:
            for name in ("HTTP_PROXY", "http_proxy"):
                monkeypatch.setenv(name, proxy.endpoint_url)
            (checked,) = await check_buckets(Settings(Kafka(), s3, Delivery(), (destination,)))
        return list(checked.problems), proxy.requests

    return asyncio.run(scenario())


def test_check_of_a_server_with_virtual_hosts_has_no_finding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3 = S3(endpoint_url=ENDPOINT, addressing_style="virtual")
    found, requests = problems(s3, TO, monkeypatch)
    assert found == []
    assert {it.headers["host"] for it in requests} == {f"my-bucket.{HOST}"}


@pytest.mark.parametrize("style", [None, "virtual"])
def test_check_reports_a_bucket_that_is_in_the_endpoint_already(
    style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = S3(endpoint_url=f"http://my-bucket.{HOST}:8080", addressing_style=style)
    (problem,), requests = problems(s3, TO, monkeypatch)
    assert problem.startswith(
        f"bucket 'my-bucket' (destination d): the host of [s3] endpoint_url (http://my-bucket.{HOST}"
        ":8080) begins with the bucket's name"
    )
    assert f'set endpoint_url to http://{HOST}:8080 and addressing_style to "virtual"' in problem
    assert requests == []


def test_endpoint_with_the_bucket_is_no_finding_where_path_style_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s3 = S3(endpoint_url=f"http://my-bucket.{HOST}", addressing_style="path")
    found, requests = problems(s3, TO, monkeypatch)
    assert found == []
    assert requests[0].target == f"http://my-bucket.{HOST}/my-bucket?location"


# --- access points and directory buckets ----------------------------------------------------------


def test_alias_of_an_access_point_has_a_virtual_host_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = through_proxy(
        S3(endpoint_url=ENDPOINT), writes(replace(TO, bucket=ALIAS)), monkeypatch
    )
    assert urls(requests) == {f"http://{ALIAS}.{HOST}/{KEY}"}


def test_directory_bucket_is_written_in_a_session_with_condition_and_checksum(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    destination = replace(TO, bucket=DIRECTORY, storage_class="EXPRESS_ONEZONE")
    requests = through_proxy(S3(endpoint_url=ENDPOINT), writes(destination), monkeypatch)
    created, *others = requests
    assert created.target == f"http://{DIRECTORY}.{HOST}/?session"
    assert "Credential=AKIAMADEUPMADEUPMADE/" in created.headers["authorization"]
    assert [it.method for it in others] == ["PUT", "POST", "PUT", "POST", "HEAD", "PUT"]
    assert urls(others) == {f"http://{DIRECTORY}.{HOST}/{KEY}"}
    for request in others:
        assert request.headers["x-amz-s3session-token"] == "the-token"
        assert "Credential=SESSIONKEY/" in request.headers["authorization"]
        assert "/s3express/aws4_request" in request.headers["authorization"]
    put, begun, part, completed, _, _ = others
    assert put.headers["if-none-match"] == completed.headers["if-none-match"] == "*"
    for request in (put, part):
        sums = [it for it in request.headers if "checksum" in it or it == "content-md5"]
        assert sums == ["x-amz-checksum-sha256"]
    assert begun.headers["x-amz-storage-class"] == "EXPRESS_ONEZONE"


def test_check_requests_of_a_directory_bucket_what_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, requests = problems(
        S3(endpoint_url=ENDPOINT), replace(TO, bucket=DIRECTORY), monkeypatch
    )
    assert found == []
    root, key = f"http://{DIRECTORY}.{HOST}/", "1970-01-01-00-00-00-stream-app-check.gz"
    assert [(it.method, it.target.partition("?")[0]) for it in requests] == [
        ("GET", root),
        ("HEAD", root),
        ("POST", f"{root}1970/01/01/00/{key}"),
        ("DELETE", f"{root}1970/01/01/00/{key}"),
    ]
    assert "Credential=AKIAMADEUPMADEUPMADE/" in requests[0].headers["authorization"]


def test_check_names_the_only_right_of_a_directory_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(request: Request) -> Answer:
        is_session = request.target.endswith("?session")
        return refusal("403 Forbidden", "AccessDenied") if is_session else respond(request)

    (problem,), _ = problems(
        S3(endpoint_url=ENDPOINT), replace(TO, bucket=DIRECTORY), monkeypatch, rule
    )
    assert (
        "(destination d): s3express:CreateSession is missing: S3 returned AccessDenied" in problem
    )
    assert problem.endswith("allow it in the directory bucket's policy, or to our own credentials")


def test_session_that_is_over_by_our_clock_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    def rule(request: Request) -> Answer:
        return session(-60) if request.target.endswith("?session") else respond(request)

    failed: list[DeliveryError] = []

    async def work(storage: Storage) -> None:
        with pytest.raises(TransientError) as caught:
            await writes(replace(TO, bucket=DIRECTORY))(storage)
        failed.append(caught.value)

    through_proxy(S3(endpoint_url=ENDPOINT), work, monkeypatch, rule)
    assert failed[0].code == "RequestTimeTooSkewed"
