"""Access checks of buckets, by a real S3 server and by responses that it gives only at times."""

import asyncio
import contextlib
import json
import shlex
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from stream_app.config.settings import S3, Delivery, Destination, Kafka, Settings
from stream_app.embedded.process import HOST, free_ports
from stream_app.embedded.servers import S3_CONFIG, S3Server
from stream_app.errors import SetupError
from stream_app.s3.access_check import (
    CHECKS_MAX,
    PREFIXES_MAX,
    SHOWN_MESSAGE_LENGTH_MAX,
    BucketCheck,
    check_buckets,
)
from stream_app.s3.bucket_policy import GRANTED, bucket_policy
from stream_app.s3.storage import Storage
from tests.contract.recorder import (
    CREATED,
    Answer,
    Request,
    answer,
    close,
    hang,
    recorder,
    refusal,
    reset,
)

PREFIX = "archive/"
KEY = "archive/1970/01/01/00/1970-01-01-00-00-00-stream-app-check.gz"

LOCATED = answer("200 OK", "<LocationConstraint></LocationConstraint>")
ABORTED = answer("204 No Content")
DENIED = refusal("403 Forbidden", "AccessDenied")

_T = TypeVar("_T")


@pytest.fixture(autouse=True)
def credentials(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)


def to(bucket: str, prefix: str = PREFIX, id: str = "a") -> Destination:  # noqa: A002
    return Destination(id=id, bucket=bucket, prefix=prefix)


def settings(s3: S3, *destinations: Destination) -> Settings:
    return Settings(Kafka(), s3, Delivery(), destinations)


def check(endpoint_url: str, *destinations: Destination, **bounds: float) -> list[BucketCheck]:
    given = settings(S3(endpoint_url=endpoint_url), *destinations)
    return asyncio.run(check_buckets(given, **bounds))


def problems(endpoint_url: str, bucket: str, prefix: str = PREFIX) -> list[str]:
    """Return the problems of a destination with that bucket and prefix."""
    (checked,) = check(endpoint_url, to(bucket, prefix))
    return list(checked.problems)


def client_of(storage: Storage) -> Any:
    """Return the botocore client for the `[s3]` table, which is there from the start."""
    return next(iter(storage.clients._clients.values())).client


def using(s3: S3Server, work: Callable[[Any], Awaitable[_T]]) -> _T:
    """Call the client of a user with all rights."""

    async def opened() -> _T:
        async with Storage(S3(endpoint_url=s3.endpoint_url)) as storage:
            return await work(client_of(storage))

    return asyncio.run(opened())


def uploads(s3: S3Server, bucket: str) -> list[tuple[str, str]]:
    """Return key and id of each upload that is unfinished."""
    listed = using(s3, lambda client: client.list_multipart_uploads(Bucket=bucket))
    return [(it["Key"], it["UploadId"]) for it in listed.get("Uploads", [])]


def contents(s3: S3Server, bucket: str) -> list[str]:
    listed = using(s3, lambda client: client.list_objects_v2(Bucket=bucket))
    return [it["Key"] for it in listed.get("Contents", [])]


def deny(s3: S3Server, bucket: str, *actions: str) -> None:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(actions),
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    put_policy(s3, bucket, {"Version": "2012-10-17", "Statement": [statement]})


def allow(s3: S3Server, bucket: str) -> None:
    """Undo `deny`: SeaweedFS lists no uploads for a user without the right to put."""
    using(s3, lambda client: client.delete_bucket_policy(Bucket=bucket))


def put_policy(s3: S3Server, bucket: str, document: Any) -> None:
    using(s3, lambda client: client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document)))


# --- a real server --------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "archive", "archive/", "it's / a\tprefix"])
def test_bucket_that_can_be_written_has_no_problem(s3: S3Server, bucket: str, prefix: str) -> None:
    assert check(s3.endpoint_url, to(bucket, prefix)) == [BucketCheck("a", bucket, prefix, ())]


def test_nothing_is_left_behind(s3: S3Server, bucket: str) -> None:
    assert problems(s3.endpoint_url, bucket) == []
    assert contents(s3, bucket) == []
    assert uploads(s3, bucket) == []


def test_missing_bucket_is_reported(s3: S3Server, bucket: str) -> None:
    (problem,) = problems(s3.endpoint_url, f"{bucket}-not")
    assert problem == (
        f"bucket '{bucket}-not' (destination a): there is no such bucket at {s3.endpoint_url}; "
        "create it, or name another"
    )


def test_checks_stand_in_the_destinations_order_and_each_has_its_own_problems(
    s3: S3Server, bucket: str
) -> None:
    destinations = [
        to(bucket, id="a"),
        to(f"{bucket}-not", id="b"),
        to(bucket, "other/", id="c"),
        to(f"{bucket}-neither", id="d"),
        to(f"{bucket}-not", "other/", id="e"),
    ]
    checks = check(s3.endpoint_url, *destinations)
    assert [(it.destination, it.bucket, it.prefix) for it in checks] == [
        (it.id, it.bucket, it.prefix) for it in destinations
    ]
    assert [bool(it.problems) for it in checks] == [False, True, False, True, True]
    assert "(destinations b, e)" in checks[1].problems[0]
    assert checks[1].problems == checks[4].problems
    assert f"bucket '{bucket}-neither' (destination d)" in checks[3].problems[0]
    assert uploads(s3, bucket) == []


@pytest.mark.parametrize(
    ("right", "operation"),
    [
        ("s3:GetBucketLocation", "GetBucketLocation"),
        ("s3:PutObject", "CreateMultipartUpload"),
        ("s3:AbortMultipartUpload", "AbortMultipartUpload"),
    ],
)
def test_right_that_the_bucket_denies_is_named_and_no_other(
    s3: S3Server, bucket: str, right: str, operation: str
) -> None:
    deny(s3, bucket, right)
    (problem,) = problems(s3.endpoint_url, bucket)
    assert problem.startswith(
        f"bucket '{bucket}' (destination a): {right} is missing: S3 returned AccessDenied for "
        f"{operation}; see: stream-app policy"
    )
    assert [it for it in GRANTED if it in problem] == [right]
    allow(s3, bucket)
    assert contents(s3, bucket) == []
    assert bool(uploads(s3, bucket)) == (right == "s3:AbortMultipartUpload")


def test_all_missing_rights_that_can_be_checked_are_reported_at_once(
    s3: S3Server, bucket: str
) -> None:
    deny(s3, bucket, "s3:*")
    named = [it.partition(": ")[2].partition(" ")[0] for it in problems(s3.endpoint_url, bucket)]
    assert named == ["s3:GetBucketLocation", "s3:PutObject"]


def test_command_for_an_upload_that_is_left_removes_it(s3: S3Server, bucket: str) -> None:
    deny(s3, bucket, "s3:AbortMultipartUpload")
    prefix = "it's / a prefix"
    (checked,) = check(s3.endpoint_url, to(bucket, prefix))
    ((key, upload_id),) = uploads(s3, bucket)
    found, _, command = checked.problems[0].partition(
        "; an unfinished upload is left; remove it with: "
    )
    assert found.endswith("see: stream-app policy")
    words = shlex.split(command)
    assert words[:3] == ["aws", "s3api", "abort-multipart-upload"]
    assert dict(zip(words[3::2], words[4::2], strict=True)) == {
        "--bucket": bucket,
        "--key": key,
        "--upload-id": upload_id,
        "--endpoint-url": s3.endpoint_url,
    }


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"),
    ],
)
def test_wrong_credentials_are_reported_in_one_line_for_all(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, name: str, code: str
) -> None:
    monkeypatch.setenv(name, "wrong")
    first, second = check(s3.endpoint_url, to(bucket, id="a"), to(f"{bucket}-not", id="b"))
    assert first.problems == second.problems
    (problem,) = first.problems
    assert problem.startswith(
        f"S3 at {s3.endpoint_url} (destinations a, b): our credentials are not accepted: {code} ("
    )
    assert problem.endswith(
        "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role"
    )
    assert s3.secret_key not in problem


def without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def test_missing_credentials_are_reported(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_credentials(monkeypatch)
    (problem,) = problems(s3.endpoint_url, bucket)
    assert "our credentials are not accepted: NoCredentials (Unable to locate" in problem


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("AWS_PROFILE", "nobody", r"ProfileNotFound: .*\(nobody\)"),
        ("AWS_ACCESS_KEY_ID", "half", "PartialCredentialsError: .*AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_credentials_that_cannot_be_read_are_a_setup_error(
    s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, seen: str
) -> None:
    without_credentials(monkeypatch)
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match=rf"^S3 \(http://.*\) cannot be used: {seen}.*; set AWS"):
        problems(s3.endpoint_url, bucket)


# --- a real server, and a user with the rights of the policy only ---------------------------------


class ServerWithStranger(S3Server):
    """Knows a second key, which may do nothing by itself."""

    stranger = {"AWS_ACCESS_KEY_ID": "stranger", "AWS_SECRET_ACCESS_KEY": "made-up"}  # noqa: RUF012
    arn = "arn:aws:iam::000000000000:user/stranger"

    def _prepare(self) -> None:
        super()._prepare()
        file = self.folder / S3_CONFIG
        config = json.loads(file.read_text())
        access_key, secret_key = self.stranger.values()
        keys = [{"accessKey": access_key, "secretKey": secret_key}]
        config["identities"].append({"name": "stranger", "credentials": keys, "actions": []})
        file.write_text(json.dumps(config))


@pytest.fixture(scope="module")
def other_s3() -> Iterator[ServerWithStranger]:
    with ServerWithStranger() as server:
        yield server


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ([], []),
        (["s3:GetBucketLocation"], ["s3:GetBucketLocation"]),
        (["s3:PutObject"], ["s3:PutObject"]),
        (["s3:GetBucketLocation", "s3:PutObject"], ["s3:GetBucketLocation", "s3:PutObject"]),
    ],
)
def test_documented_policy_suffices_and_less_of_it_is_reported(
    other_s3: ServerWithStranger,
    monkeypatch: pytest.MonkeyPatch,
    without: list[str],
    named: list[str],
) -> None:
    for name, value in other_s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{uuid4().hex[:12]}"
    other_s3.create_bucket(bucket)
    document = json.loads(bucket_policy([to(bucket, "a prefix/")], other_s3.arn))
    for statement in document["Statement"]:
        statement["Action"] = [it for it in statement["Action"] if it not in without]
    document["Statement"] = [it for it in document["Statement"] if it["Action"]]
    put_policy(other_s3, bucket, document)

    with monkeypatch.context() as patched:
        for name, value in other_s3.stranger.items():
            patched.setenv(name, value)
        found = problems(other_s3.endpoint_url, bucket, "a prefix/")
        elsewhere = problems(other_s3.endpoint_url, bucket, "other/")
    assert [it.partition(": ")[2].partition(" is missing")[0] for it in found] == named
    assert "s3:PutObject is missing" in elsewhere[-1], "it may write below its prefix only"
    assert uploads(other_s3, bucket) == []


# --- no server -----------------------------------------------------------------------------------


def test_dead_endpoint_is_reported_in_one_line_for_all() -> None:
    endpoint_url = f"http://{HOST}:{free_ports(1)[0]}"
    first, second = check(endpoint_url, to("bucket-x", id="a"), to("bucket-y", id="b"))
    assert first.problems == second.problems
    (problem,) = first.problems
    assert problem == (
        f"S3 at {endpoint_url} (destinations a, b): GetBucketLocation failed: Connection refused; "
        "is it running? Set [s3] endpoint_url to its URL"
    )


def test_unknown_host_name_is_reported() -> None:
    (problem,) = problems("http://nobody.invalid", "bucket-x")
    assert problem.startswith(
        "S3 at http://nobody.invalid (destination a): GetBucketLocation failed: "
    )
    assert "Could not connect" not in problem, "botocore's words, which name the request"


def test_endpoint_without_tls_is_reported() -> None:
    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer("400 Bad Request"))
        await writer.drain()
        writer.close()

    async def scenario() -> list[BucketCheck]:
        async with await asyncio.start_server(respond, HOST, 0) as server:
            endpoint_url = f"https://{HOST}:{server.sockets[0].getsockname()[1]}"
            return await check_buckets(settings(S3(endpoint_url=endpoint_url), to("bucket-x")))

    (checked,) = asyncio.run(scenario())
    (problem,) = checked.problems
    assert "GetBucketLocation failed: [SSL: WRONG_VERSION_NUMBER]" in problem
    assert "; does the server use TLS? Set AWS_CA_BUNDLE" in problem


# --- responses that a real server does not return on demand --------------------------------------


def check_against(
    *answers: Answer, s3: S3 | None = None, **bounds: float
) -> tuple[list[str], list[Request]]:
    """Return the problems of a server with these answers, and its requests."""

    async def scenario() -> tuple[list[str], list[Request]]:
        async with recorder(*answers) as server:
            with pytest.MonkeyPatch.context() as patched:
                # So settings without an endpoint mean AWS, and the requests come here.
                patched.setenv("AWS_ENDPOINT_URL_S3", server.endpoint_url)
                given = settings(s3 or S3(endpoint_url=server.endpoint_url), to("bucket-x"))
                (checked,) = await check_buckets(given, **bounds)
        return list(checked.problems), server.requests

    return asyncio.run(scenario())


def test_three_requests_are_sent_under_a_key_that_no_delivery_has() -> None:
    found, requests = check_against(LOCATED, CREATED, ABORTED)
    assert found == []
    assert [it.first_line.removesuffix(" HTTP/1.1") for it in requests] == [
        "GET /bucket-x?location",
        f"POST /bucket-x/{KEY}?uploads",
        f"DELETE /bucket-x/{KEY}?uploadId=the-id",
    ]


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        ((DENIED, CREATED, ABORTED), ["s3:GetBucketLocation"]),
        ((LOCATED, DENIED), ["s3:PutObject"]),
        ((LOCATED, CREATED, DENIED), ["s3:AbortMultipartUpload"]),
        ((DENIED, DENIED), ["s3:GetBucketLocation", "s3:PutObject"]),
        ((DENIED, CREATED, DENIED), ["s3:GetBucketLocation", "s3:AbortMultipartUpload"]),
    ],
)
def test_exactly_the_missing_rights_are_named(
    answers: tuple[Answer, ...], named: list[str]
) -> None:
    found, requests = check_against(*answers)
    assert [it.partition(": ")[2].partition(" is missing: ")[0] for it in found] == named
    assert set(named) <= GRANTED
    assert all("AccessDenied" in it and "(in words); see: stream-app policy" in it for it in found)
    assert len(requests) == len(answers)


def test_right_that_s3_names_is_reported_instead() -> None:
    words = (
        "User: arn:aws:iam::123456789012:user/x is not authorized to perform: kms:GenerateDataKey "
        "on this resource because no resource-based policy allows it"
    )
    body = f"<Error><Code>AccessDenied</Code><Message>{words}</Message></Error>"
    (problem,), _ = check_against(LOCATED, answer("403 Forbidden", body))
    assert "(destination a): kms:GenerateDataKey is missing: S3 returned AccessDenied" in problem
    assert words in problem
    assert problem.endswith("; no bucket policy grants it")


def test_upload_that_is_gone_when_it_is_aborted_is_no_problem() -> None:
    found, _ = check_against(LOCATED, CREATED, refusal("404 Not Found", "NoSuchUpload"))
    assert found == []


PATIENCE_SECONDS = 3.0
"""Where a request is never answered; those before it have to be, on any machine."""


def patience(*answers: Answer) -> dict[str, float]:
    """Return the bounds of a check that meets these answers."""
    return {"response_seconds_max": PATIENCE_SECONDS} if hang in answers else {}


@pytest.mark.parametrize("fault", [refusal("503 Slow Down", "SlowDown"), reset, hang])
def test_upload_whose_abort_fails_is_reported_with_its_id(fault: Answer) -> None:
    (problem,), _ = check_against(LOCATED, CREATED, fault, **patience(fault))
    assert "an unfinished upload is left; remove it with: aws s3api" in problem
    assert f"--key {KEY} --upload-id the-id" in problem


def test_command_for_aws_names_no_endpoint() -> None:
    (problem,), _ = check_against(LOCATED, CREATED, DENIED, s3=S3())
    assert problem.endswith(
        "remove it with: aws s3api abort-multipart-upload --bucket bucket-x "
        f"--key {KEY} --upload-id the-id"
    )


@pytest.mark.parametrize("fault", [reset, hang, answer("200 OK", "<html/>", "text/html")])
def test_upload_that_may_have_been_created_is_reported(fault: Answer) -> None:
    (problem,), _ = check_against(LOCATED, fault, **patience(fault))
    assert problem.endswith(f"; an unfinished upload may be left in bucket-x under {KEY}")


@pytest.mark.parametrize("answers", [(hang,), (LOCATED, hang), (LOCATED, CREATED, hang)])
def test_server_that_does_not_respond_is_awaited_only_so_long(answers: tuple[Answer, ...]) -> None:
    # Were it not, the server's own bound would end the test.
    (problem,), requests = check_against(*answers, **patience(*answers))
    assert "failed: no response within 3 s; is it running?" in problem
    assert len(requests) == len(answers)


def test_connection_that_is_closed_is_reported() -> None:
    (problem,), _ = check_against(close)
    assert "GetBucketLocation failed: Server disconnected; is it running?" in problem


@pytest.mark.parametrize("body", ["", "no markup", "<LocationCons", "<a></b>"])
def test_response_that_is_not_one_of_s3_is_reported(body: str) -> None:
    (problem,), requests = check_against(answer("200 OK", body))
    assert "the response to GetBucketLocation is not one of S3 (" in problem
    assert problem.endswith("; set [s3] endpoint_url to the URL of S3")
    assert len(requests) == 1


def test_page_that_could_be_a_location_is_found_by_the_next_request() -> None:
    (problem,), _ = check_against(answer("200 OK", "<html>Welcome</html>", "text/html"))
    assert (
        "the response to CreateMultipartUpload is not one of S3 (the response has no UploadId"
        in problem
    )


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (
            refusal("503 Slow Down", "SlowDown"),
            "S3 returned SlowDown for GetBucketLocation (in words); run the check again",
        ),
        (
            refusal("403 Forbidden", "RequestTimeTooSkewed"),
            "S3 returned RequestTimeTooSkewed for GetBucketLocation (in words); set this machine's",
        ),
        (
            refusal("403 Forbidden", "AllAccessDisabled"),
            "S3 returned AllAccessDisabled for GetBucketLocation (in words); look up the code",
        ),
        (
            answer("403 Forbidden", "<html>a proxy</html>", "text/html"),
            "S3 returned 403 for GetBucketLocation; is the server at http://",
        ),
    ],
)
def test_other_refusal_is_reported_with_its_code(response: Answer, expected: str) -> None:
    (problem,), requests = check_against(response)
    assert problem.startswith(f"bucket 'bucket-x' (destination a): {expected}")
    assert len(requests) == 1


def test_credentials_that_have_expired_are_reported() -> None:
    (problem,), _ = check_against(refusal("400 Bad Request", "ExpiredToken"))
    assert "our credentials are not accepted: ExpiredToken (in words); set AWS" in problem


def test_message_of_s3_stays_on_its_line_and_is_cut() -> None:
    words = "one\ntwo \x1b]0;three" + "!" * 1000
    body = f"<Error><Code>X</Code><Message>{words.replace(chr(27), '&#x9b;')}</Message></Error>"
    (problem,), _ = check_against(answer("400 Bad Request", body))
    assert r"(one\ntwo \x9b]0;three!!!" in problem
    assert problem.isprintable()
    assert problem.count("!") < SHOWN_MESSAGE_LENGTH_MAX


# --- regions --------------------------------------------------------------------------------------


def located(region: str) -> bytes:
    return answer("200 OK", f"<LocationConstraint>{region}</LocationConstraint>")


@pytest.mark.parametrize("region", ["", "EU", "eu-central-1", "here"])
def test_region_of_a_server_of_ones_own_may_have_any_name(region: str) -> None:
    found, _ = check_against(located(region), CREATED, ABORTED)
    assert found == []


@pytest.mark.parametrize(
    ("region", "ours"),
    [("", "us-east-1"), ("EU", "eu-west-1"), ("eu-central-1", "eu-central-1")],
)
def test_bucket_of_aws_in_our_region_has_no_problem(region: str, ours: str) -> None:
    found, _ = check_against(located(region), CREATED, ABORTED, s3=S3(region=ours))
    assert found == []


MOVED = refusal("301 Moved Permanently", "PermanentRedirect", x_amz_bucket_region="eu-west-1")
MISADDRESSED = answer(
    "400 Bad Request",
    "<Error><Code>AuthorizationHeaderMalformed</Code><Message>in words</Message>"
    "<Region>eu-west-1</Region></Error>",
)


@pytest.mark.parametrize("response", [MOVED, MISADDRESSED])
@pytest.mark.parametrize("given", [None, S3(region="sa-east-1")])
def test_bucket_in_another_region_is_checked_there_and_has_no_problem(
    response: Answer, given: S3 | None
) -> None:
    found, requests = check_against(response, LOCATED, CREATED, ABORTED, s3=given)
    assert found == []
    ours = "us-east-1" if given is None else "sa-east-1"
    regions = [it.headers["authorization"].split("/")[2] for it in requests]
    assert regions == [ours, "eu-west-1", "eu-west-1", "eu-west-1"]


@pytest.mark.parametrize("response", [MOVED, MISADDRESSED])
@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, "[s3] endpoint_url and region to its own"),
        (S3(region="sa-east-1"), "[s3] region to its own"),
    ],
)
def test_redirect_that_leads_nowhere_is_reported_with_the_region(
    response: Answer, given: S3 | None, wanted: str
) -> None:
    (problem,), _ = check_against(response, s3=given)
    assert f"(destination a): it is in eu-west-1; set {wanted} (S3 returned " in problem


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "in another region than us-east-1; set [s3] endpoint_url and region"),
        (S3(region="sa-east-1"), "in another region than sa-east-1; set [s3] region to its own"),
    ],
)
def test_redirect_that_names_no_region_is_reported(given: S3 | None, expected: str) -> None:
    (problem,), _ = check_against(refusal("301 Moved Permanently", "PermanentRedirect"), s3=given)
    assert f"(destination a): it is {expected}" in problem


def test_malformed_authorization_without_a_region_is_no_redirect() -> None:
    (problem,), _ = check_against(refusal("400 Bad Request", "AuthorizationHeaderMalformed"))
    assert "S3 returned AuthorizationHeaderMalformed for GetBucketLocation (in words)" in problem
    assert "region" not in problem


# --- options of a destination --------------------------------------------------------------------


def check_options(destination: Destination, *answers: Answer) -> tuple[list[str], list[Request]]:
    """Return the problems of a destination at a server with these answers, and its requests."""

    async def scenario() -> tuple[list[str], list[Request]]:
        async with recorder(*answers) as server:
            given = replace(destination, endpoint_url=server.endpoint_url)
            (checked,) = await check_buckets(settings(S3(endpoint_url="http://no.invalid"), given))
        return list(checked.problems), server.requests

    return asyncio.run(scenario())


OPTIONS = Destination(
    "a",
    "bucket-x",
    region="eu-west-1",
    expected_bucket_owner="123456789012",
    acl="bucket-owner-full-control",
    storage_class="STANDARD_IA",
    sse="aws:kms",
    kms_key_id="alias/archive",
    tags=(("team", "orders"),),
)


def test_upload_is_begun_with_the_destinations_options() -> None:
    sent = answer("200 OK", ETag='"part"', x_amz_server_side_encryption="aws:kms")
    found, requests = check_options(OPTIONS, LOCATED, CREATED, sent, ABORTED)
    assert found == []
    for name, text in {
        "x-amz-acl": "bucket-owner-full-control",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "alias/archive",
        "x-amz-tagging": "team=orders",
    }.items():
        assert requests[1].headers[name] == text
    assert {it.headers["x-amz-expected-bucket-owner"] for it in requests} == {"123456789012"}
    assert {it.headers["authorization"].split("/")[2] for it in requests} == {"eu-west-1"}


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        # Denied as it is; then tried without options, with the ACL only, with the tags only.
        ((DENIED,), ["s3:PutObject"]),
        ((CREATED, ABORTED, DENIED, CREATED, ABORTED), ["s3:PutObjectAcl"]),
        ((CREATED, ABORTED, CREATED, ABORTED, DENIED), ["s3:PutObjectTagging"]),
        ((CREATED, ABORTED, DENIED, DENIED), ["s3:PutObjectAcl", "s3:PutObjectTagging"]),
    ],
)
def test_right_for_an_option_is_distinguished_from_the_right_to_put(
    answers: tuple[Answer, ...], named: list[str]
) -> None:
    found, requests = check_options(OPTIONS, LOCATED, DENIED, *answers)
    assert [it.partition(": ")[2].partition(" is missing: ")[0] for it in found] == named
    assert len(requests) == 2 + len(answers)
    assert all("or the bucket is not account 123456789012's" in it for it in found)


def test_bucket_that_allows_no_acls_is_reported() -> None:
    (problem,), _ = check_options(
        OPTIONS, LOCATED, refusal("400 Bad Request", "AccessControlListNotSupported")
    )
    assert "(in words); the bucket allows no ACLs: remove acl" in problem


def test_destinations_with_other_options_are_checked_by_themselves() -> None:
    async def scenario() -> list[str]:
        async with recorder(LOCATED, CREATED, ABORTED, LOCATED, CREATED, ABORTED) as server:
            s3 = S3(endpoint_url=server.endpoint_url)
            for given in (to("bucket-x"), replace(to("bucket-x"), acl="private")):
                await check_buckets(settings(s3, given))
        return [
            it.headers.get("x-amz-acl", "") for it in server.requests if "?uploads" in it.target
        ]

    assert asyncio.run(scenario()) == ["", "private"]


def test_role_that_may_not_be_assumed_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "User: x is not authorized to perform: sts:AssumeRole on resource: y"
    body = (
        "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
        f"<Message>{words}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )

    async def scenario() -> tuple[list[str], list[Request], list[Request]]:
        async with recorder(answer("403 Forbidden", body, "text/xml")) as sts, recorder() as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.endpoint_url)
            role = replace(to("bucket-x"), role_arn="arn:aws:iam::123456789012:role/x")
            given = settings(S3(endpoint_url=server.endpoint_url), role)
            (checked,) = await check_buckets(given)
        return list(checked.problems), sts.requests, server.requests

    (problem,), to_sts, to_s3 = asyncio.run(scenario())
    assert problem.startswith(
        "role arn:aws:iam::123456789012:role/x (destination a): STS returned AccessDenied for "
        "AssumeRole (role arn:aws:iam::123456789012:role/x cannot be assumed: User: x is not"
    )
    assert problem.endswith("is external_id the one that its trust policy requires?")
    assert len(to_sts) == 1
    assert to_s3 == []


# --- many destinations ----------------------------------------------------------------------------


GONE = refusal("404 Not Found", "NoSuchBucket")


def test_bucket_and_prefix_are_checked_once_however_many_share_them() -> None:
    async def scenario() -> tuple[list[BucketCheck], list[Request]]:
        shared = [to("bucket-x", it, id=f"d{n}") for n, it in enumerate(["p", "p/", "p", "p/"])]
        async with recorder(LOCATED, CREATED, ABORTED) as server:
            checks = await check_buckets(settings(S3(endpoint_url=server.endpoint_url), *shared))
        return checks, server.requests

    checks, requests = asyncio.run(scenario())
    assert [(it.destination, it.prefix, it.problems) for it in checks] == [
        ("d0", "p", ()),
        ("d1", "p/", ()),
        ("d2", "p", ()),
        ("d3", "p/", ()),
    ]
    assert len(requests) == 3


def of_prefixes(bucket: str, count: int) -> list[Destination]:
    return [to(bucket, f"p{number}/", id=f"d{number}") for number in range(count)]


def test_some_prefixes_of_a_bucket_are_tried(s3: S3Server, bucket: str) -> None:
    many = of_prefixes(bucket, 3 * PREFIXES_MAX - 1)
    given = settings(
        S3(endpoint_url=s3.endpoint_url), *many, replace(many[0], id="a", acl="private")
    )
    checks = asyncio.run(check_buckets(given))
    assert [it.destination for it in checks] == [it.id for it in given.destinations]
    assert [index for index, it in enumerate(checks) if it.is_tried] == [
        *range(0, len(many), 3),
        len(many),
    ]
    assert [it.writable for it in checks] == [True if it.is_tried else None for it in checks]


def test_prefixes_that_were_not_tried_share_what_all_others_have_found() -> None:
    async def scenario() -> tuple[list[BucketCheck], list[Request]]:
        async with recorder(GONE) as server:
            s3 = S3(endpoint_url=server.endpoint_url)
            checks = await check_buckets(settings(s3, *of_prefixes("b-x", 2 * PREFIXES_MAX)))
        return checks, server.requests

    checks, requests = asyncio.run(scenario())
    assert len(requests) == PREFIXES_MAX
    assert {it.writable for it in checks} == {False}
    ((line,),) = {it.problems for it in checks}
    assert f"d4 and {2 * PREFIXES_MAX - 5} more): there is no such bucket" in line


def test_problem_of_some_prefixes_is_not_that_of_others() -> None:
    async def scenario() -> list[BucketCheck]:
        # The first requests are refused, whichever they are; all later ones succeed.
        async with recorder(DENIED, DENIED, DENIED, CREATED) as server:
            s3 = S3(endpoint_url=server.endpoint_url)
            return await check_buckets(settings(s3, *of_prefixes("b-x", PREFIXES_MAX + 1)))

    checks = asyncio.run(scenario())
    assert {it.writable for it in checks if not it.is_tried} == {None}
    assert [it for it in checks if it.writable is False]


def test_no_more_than_a_few_destinations_are_named() -> None:
    async def scenario() -> list[BucketCheck]:
        shared = [to("bucket-x", id=f"d{number}") for number in range(7)]
        async with recorder(GONE) as server:
            return await check_buckets(settings(S3(endpoint_url=server.endpoint_url), *shared))

    lines = {it.problems for it in asyncio.run(scenario())}
    ((line,),) = lines
    assert line.startswith("bucket 'bucket-x' (destinations d0, d1, d2, d3, d4 and 2 more): there")


def test_buckets_are_checked_all_at_once_up_to_a_bound() -> None:
    count = CHECKS_MAX + 8
    waiting = 0
    full, too_many = asyncio.Event(), asyncio.Event()

    async def answer_together(writer: asyncio.StreamWriter) -> None:
        nonlocal waiting
        waiting += 1
        if waiting == CHECKS_MAX:
            full.set()
        if waiting > CHECKS_MAX:
            too_many.set()
        await full.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await too_many.wait()
        waiting -= 1
        writer.write(GONE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        await writer.drain()

    async def scenario() -> list[BucketCheck]:
        destinations = [to(f"bucket-{number}", id=f"d{number}") for number in range(count)]
        async with recorder(answer_together) as server:
            return await check_buckets(
                settings(S3(endpoint_url=server.endpoint_url), *destinations)
            )

    checks = asyncio.run(scenario())
    assert len(checks) == count
    assert all("no such bucket" in it.problems[0] for it in checks)
    assert not too_many.is_set()


def test_bucket_that_is_not_checked_in_time_is_reported() -> None:
    found, requests = check_against(LOCATED, seconds_max=0)
    assert len(found) == 1
    assert found[0].endswith("(destination a): not checked within 0 s; run the check again")
    assert requests == []
