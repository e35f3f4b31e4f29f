"""Keys that are renewed in place: read again, by the requests as they travel.

credentials file ──> `Clients.call` ──> a server that knows one key, and an STS that does so too
"""

import asyncio
import contextlib
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stream_app.config.settings import S3, Destination
from stream_app.errors import DeliveryError, PermanentError, TransientError
from stream_app.s3.clients import Clients
from stream_app.s3.credentials import READ_SECONDS_MIN
from tests.certificates import identities
from tests.contract.recorder import LOCATED, Answer, Request, answer, recorder, refusal

TO = Destination("d", "my-bucket")
ROLE = "arn:aws:iam::123456789012:role/stream-app"
ASSUMING = replace(TO, role_arn=ROLE)
CODES = [
    ("403 Forbidden", "InvalidAccessKeyId"),
    ("403 Forbidden", "SignatureDoesNotMatch"),
    ("400 Bad Request", "ExpiredToken"),
]
SECONDS_MAX = 60
NEVER = 1_000.0
"""Seconds after which only a refusal can have read a file again."""


def key_of(request: Request) -> str:
    return request.headers["authorization"].split("Credential=")[1].split("/")[0]


@dataclass
class Keys:
    """A file with a key, and servers that know another one, or the same."""

    file: Path
    known: str = "OLD"
    """The key that S3 knows, beside those that STS issued last."""
    issued: int = 0
    """Number of credentials that STS has issued; S3 knows the last ones."""
    issued_are_known: bool = True
    refused_as: tuple[str, str] = CODES[0]
    asked: list[str] = field(default_factory=list)
    """The key of each request to S3."""

    def write(self, key: str) -> None:
        text = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = of-{key}\n"
        self.file.write_text(text, "utf-8")

    def s3(self, request: Request) -> Answer:
        self.asked.append(key_of(request))
        last = f"ISSUED{self.issued}" if self.issued_are_known else None
        if self.asked[-1] in (self.known, last):
            return LOCATED
        return refusal(*self.refused_as)

    def sts(self, request: Request) -> Answer:
        if key_of(request) != self.known:
            return answer(
                "403 Forbidden",
                "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>no</Message>"
                "</Error></ErrorResponse>",
                "text/xml",
            )
        self.issued += 1
        return answer(
            "200 OK",
            "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
            f"<AccessKeyId>ISSUED{self.issued}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>t</SessionToken><Expiration>{ends_at(3600)}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>",
            "text/xml",
        )


def ends_at(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    keys = Keys(tmp_path / "credentials")
    keys.write("OLD")
    return keys


@contextlib.asynccontextmanager
async def clients_of(
    keys: Keys, *, role_seconds_min: float = 10.0, check_seconds: float = NEVER
) -> AsyncIterator[Clients]:
    async with recorder(rule=keys.s3) as s3, recorder(rule=keys.sts) as sts:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("AWS_ENDPOINT_URL_STS", sts.endpoint_url)
            settings = S3(endpoint_url=s3.endpoint_url)
            async with Clients(
                settings, role_seconds_min=role_seconds_min, check_seconds=check_seconds
            ) as clients:
                yield clients


async def ask(clients: Clients, destination: Destination = TO) -> None:
    await clients.call(destination, "get_bucket_location")


async def until(condition: Callable[[], bool], clients: Clients) -> None:
    """Call S3 until the condition holds."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        await ask(clients)
        await asyncio.sleep(0.1)


def errors_of(clients: Clients, count: int) -> "asyncio.Future[list[DeliveryError | None]]":
    async def error() -> DeliveryError | None:
        try:
            await ask(clients)
        except DeliveryError as error:
            return error
        return None

    return asyncio.gather(*(error() for _ in range(count)))


@pytest.mark.parametrize("refused_as", CODES)
def test_refused_key_is_replaced_by_the_newer_one_in_the_file_without_a_failed_call(
    keys: Keys, refused_as: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with clients_of(keys) as clients:
            await ask(clients)
            keys.write("NEW")
            keys.known, keys.refused_as = "NEW", refused_as
            for _ in range(3):
                await ask(clients)

    caplog.set_level(logging.INFO, "stream_app")
    asyncio.run(scenario())
    assert keys.asked == ["OLD", "OLD", "NEW", "NEW", "NEW"]
    assert caplog.messages == [
        f"new credentials for S3 read from shared-credentials-file {keys.file}"
    ]


def test_requests_that_were_refused_together_are_all_repeated(keys: Keys) -> None:
    async def scenario() -> None:
        async with clients_of(keys) as clients:
            await ask(clients)
            keys.write("NEW")
            keys.known = "NEW"
            assert await errors_of(clients, 20) == [None] * 20

    asyncio.run(scenario())
    assert keys.asked.count("NEW") == 20


def test_newer_key_in_the_file_is_used_before_the_old_one_is_refused(keys: Keys) -> None:
    async def scenario() -> None:
        async with clients_of(keys, check_seconds=0.1) as clients:
            await ask(clients)
            keys.write("NEW")
            keys.issued, keys.known = 0, "NEW"
            keys.refused_as = ("500 Internal Server Error", "InternalError")
            deadline = time.monotonic() + SECONDS_MAX
            while keys.asked[-1] != "NEW":
                assert time.monotonic() < deadline
                with contextlib.suppress(TransientError):
                    await ask(clients)
                await asyncio.sleep(0.1)

    asyncio.run(scenario())


def test_file_that_is_half_written_keeps_the_old_key(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with clients_of(keys, check_seconds=0.1) as clients:
            await ask(clients)
            for text in ("", "[default]\naws_access_key_id = NEW\n", "[defau"):
                caplog.clear()
                keys.file.write_text(text, "utf-8")
                await until(lambda: bool(caplog.messages), clients)
                (message,) = caplog.messages
                assert message.startswith(
                    f"credentials for S3 from shared-credentials-file {keys.file} cannot be read "
                    "again, the old ones stay: "
                )
            assert set(keys.asked) == {"OLD"}
            keys.write("NEW")
            keys.known = "NEW"
            await ask(clients)

    caplog.set_level(logging.WARNING, "stream_app")
    asyncio.run(scenario())


def test_refused_key_without_a_newer_one_is_permanent_and_read_and_logged_once(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> list[DeliveryError | None]:
        async with clients_of(keys) as clients:
            keys.known = "NEW"
            return [error for _ in range(5) for error in await errors_of(clients, 4)]

    caplog.set_level(logging.INFO, "stream_app")
    errors = asyncio.run(scenario())
    assert {(type(it), it.code) for it in errors if it} == {(PermanentError, "InvalidAccessKeyId")}
    assert (len(errors), keys.asked) == (20, ["OLD"] * 20)
    (message,) = caplog.messages
    assert f"refuses the credentials from shared-credentials-file {keys.file}: Inv" in message


def test_fresh_key_that_s3_does_not_know_yet_is_not_permanent(keys: Keys) -> None:
    async def scenario() -> list[DeliveryError | None]:
        async with clients_of(keys) as clients:
            await ask(clients)
            keys.write("NEW")
            keys.known = "NOT-YET"
            return await errors_of(clients, 1)

    (error,) = asyncio.run(scenario())
    assert isinstance(error, TransientError)
    assert (error.code, keys.asked) == ("InvalidAccessKeyId", ["OLD", "OLD", "NEW"])


def test_sources_are_read_again_on_request(keys: Keys) -> None:
    async def scenario() -> None:
        async with clients_of(keys) as clients:
            await ask(clients)
            keys.write("NEW")
            keys.known = "NEW"
            await clients.reread_credentials()
            await ask(clients)

    asyncio.run(scenario())
    assert keys.asked == ["OLD", "NEW"]


def test_sources_without_other_keys_are_no_renewal(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with clients_of(keys) as clients:
            for _ in range(2):
                await clients.reread_credentials()
                await ask(clients)

    caplog.set_level(logging.INFO, "stream_app")
    asyncio.run(scenario())
    assert (keys.asked, caplog.messages) == (["OLD", "OLD"], [])


def use_profile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a profile assume the role with the key of the file."""
    (folder / "config").write_text(
        f"[profile archive]\nrole_arn = {ROLE}\nsource_profile = default\nregion = us-east-1\n",
        "utf-8",
    )
    monkeypatch.setenv("AWS_PROFILE", "archive")


def run_program(keys: Keys, folder: Path) -> Callable[[str], None]:
    """Let a program give the keys; return a function that decides on the key. Runs are counted."""
    keys.file.unlink()
    program = folder / "program"
    program.write_text(f"#!/bin/sh\necho run >>{folder}/runs\ncat {folder}/key.json\n", "utf-8")
    program.chmod(0o700)
    (folder / "config").write_text(f"[default]\ncredential_process = {program}\n", "utf-8")

    def give(key: str) -> None:
        document = {"Version": 1, "AccessKeyId": key, "SecretAccessKey": "s"}
        (folder / "key.json").write_text(json.dumps(document), "utf-8")

    return give


def test_program_for_credentials_without_an_end_is_run_again_after_a_refusal(
    keys: Keys, tmp_path: Path
) -> None:
    give = run_program(keys, tmp_path)
    give("OLD")

    async def scenario() -> None:
        async with clients_of(keys) as clients:
            await ask(clients)
            give("NEW")
            keys.known = "NEW"
            await ask(clients)

    asyncio.run(scenario())
    assert keys.asked == ["OLD", "OLD", "NEW"]


def test_refusals_read_the_source_once_within_the_bound(keys: Keys, tmp_path: Path) -> None:
    give = run_program(keys, tmp_path)
    give("OLD")

    async def scenario() -> float:
        async with clients_of(keys) as clients:
            keys.known = "NEW"
            began_at = time.monotonic()
            for _ in range(3):
                await errors_of(clients, 8)
            return time.monotonic() - began_at

    seconds = asyncio.run(scenario())
    runs = len((tmp_path / "runs").read_text("ascii").split())
    assert 2 <= runs <= 2 + seconds // READ_SECONDS_MIN


def test_program_that_gives_credentials_that_have_ended_is_no_crash(
    keys: Keys, tmp_path: Path
) -> None:
    document = {
        "Version": 1,
        "AccessKeyId": "OLD",
        "SecretAccessKey": "s",
        "SessionToken": "t",
        "Expiration": ends_at(-60),
    }
    (tmp_path / "key.json").write_text(json.dumps(document), "utf-8")
    keys.file.unlink()
    (tmp_path / "config").write_text(
        f"[default]\ncredential_process = cat {tmp_path}/key.json\n", "utf-8"
    )

    async def scenario() -> list[DeliveryError | None]:
        async with clients_of(keys) as clients:
            return await errors_of(clients, 1)

    (error,) = asyncio.run(scenario())
    assert isinstance(error, TransientError)
    assert error.code == "ExpiredToken"


def test_role_is_assumed_with_the_newer_key_where_sts_refuses_the_old_one(keys: Keys) -> None:
    async def scenario() -> None:
        async with clients_of(keys) as clients:
            await ask(clients)
            keys.write("NEW")
            keys.known = "NEW"
            await ask(clients, ASSUMING)

    asyncio.run(scenario())
    assert keys.asked == ["OLD", "ISSUED1"]


def test_refused_credentials_of_a_role_are_requested_again_within_the_bound(keys: Keys) -> None:
    async def scenario(seconds_min: float) -> list[DeliveryError | None]:
        async with clients_of(keys, role_seconds_min=seconds_min) as clients:
            await ask(clients, ASSUMING)
            keys.issued += 1  # so those that were issued are not known any more

            async def error() -> DeliveryError | None:
                try:
                    await ask(clients, ASSUMING)
                except DeliveryError as error:
                    return error
                return None

            return list(await asyncio.gather(*(error() for _ in range(4))))

    assert asyncio.run(scenario(0.0)) == [None] * 4
    assert keys.issued == 3
    keys.issued = 0
    refused = asyncio.run(scenario(60.0))
    assert {it.code for it in refused if it} == {"InvalidAccessKeyId"}
    assert (len(refused), keys.issued) == (4, 2)


def test_profile_that_assumes_a_role_follows_the_key_of_its_source(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with clients_of(keys) as clients:
            await ask(clients)
            keys.write("NEW")
            keys.known, keys.issued = "NEW", keys.issued + 1
            await ask(clients)

    use_profile(tmp_path, monkeypatch)
    asyncio.run(scenario())
    assert keys.asked == ["ISSUED1", "ISSUED1", "ISSUED3"]


def test_worker_that_starts_without_credentials_finds_them_later(keys: Keys) -> None:
    async def scenario() -> None:
        keys.file.unlink()
        async with clients_of(keys) as clients:
            (error,) = await errors_of(clients, 1)
            assert error is not None
            assert error.code == "NoCredentials"
            keys.write("OLD")
            await ask(clients)

    asyncio.run(scenario())
    assert keys.asked == ["OLD"]


def test_renewed_authority_of_the_server_is_trusted_without_a_restart(
    keys: Keys, tmp_path: Path
) -> None:
    old, new = identities(tmp_path, ("old", "new"))
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.certificate.read_bytes())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(new.both)

    async def scenario() -> list[DeliveryError | None]:
        async with (
            recorder(rule=keys.s3, tls=tls) as server,
            Clients(S3(endpoint_url=server.endpoint_url)) as clients,
        ):
            errors = await errors_of(clients, 1)
            bundle.write_bytes(new.certificate.read_bytes())
            return errors + await errors_of(clients, 1)

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AWS_CA_BUNDLE", str(bundle))
        refused, accepted = asyncio.run(scenario())
    assert isinstance(refused, TransientError)
    assert (refused.code, accepted) == ("SSLError", None)


def test_issued_credentials_that_s3_never_knows_are_refused_for_good(
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> list[DeliveryError | None]:
        async with clients_of(keys) as clients:
            keys.issued_are_known = False
            return await errors_of(clients, 1) + await errors_of(clients, 1)

    caplog.set_level(logging.WARNING, "stream_app")
    use_profile(tmp_path, monkeypatch)
    errors = asyncio.run(scenario())
    assert {(type(it), it.code) for it in errors if it} == {(PermanentError, "InvalidAccessKeyId")}
    assert (len(errors), keys.asked) == (2, ["ISSUED1", "ISSUED2", "ISSUED2"])
    assert len(caplog.messages) == 1


def test_profile_whose_source_is_refused_from_the_start_follows_its_renewal(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> list[DeliveryError | None]:
        keys.known = "NEW"
        async with clients_of(keys) as clients:
            refused = await errors_of(clients, 1)
            keys.write("NEW")
            return refused + await errors_of(clients, 1)

    use_profile(tmp_path, monkeypatch)
    refused, accepted = asyncio.run(scenario())
    assert refused is not None
    assert (refused.code, accepted, keys.asked) == ("InvalidClientTokenId", None, ["ISSUED1"])
