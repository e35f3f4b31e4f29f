"""Asking S3 whether deliveries can be written, before there are any: for `stream-app check`.

For each bucket, prefix and set of options, as its deliveries will be asked for (region, endpoint,
role):

1. GetBucketLocation: may we ask, and is there such a bucket?
2. CreateMultipartUpload under the prefix, with ACL, tags, encryption and the like: may we put so?
3. AbortMultipartUpload: may we take it back?

An upload that is begun and aborted is never an object, so nobody can see anything at any time. Its
key has a delivery's form, so whatever allows deliveries allows it as well; but where a delivery's
has 64 hex digits it has the words `stream-app-check`, so no delivery can ever have it.

A right that is missing does not keep the next question from being asked. Where it is refused to put
with an ACL or tags, it is asked once more without, to tell which right it is. Without the right to
put there is nothing to abort, and that right is not asked for: servers answer variously about an
upload that does not exist, and a right that is there would be called missing.
"""

import asyncio
import os
import shlex
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from stream_app.clients import CREDENTIALS_ADVICE
from stream_app.errors import DeliveryError, PermanentError, TransientError
from stream_app.objects import object_key
from stream_app.policy import ACTIONS, OPTION_RIGHTS, missing_right
from stream_app.printable import printable
from stream_app.s3 import Storage
from stream_app.settings import PAYLOAD_DEFAULT, Destination, Settings
from stream_app.trouble import CREDENTIALS_REFUSED, UNREADABLE, region_named

ANSWER_SECONDS_MAX: Final = 10.0
"""Shorter than a worker's patience: somebody is waiting at a terminal."""
SECONDS_MAX: Final = 120.0
"""Nothing is begun after this; what has begun ends within three answers' time."""
ASKED_AT_ONCE_MAX: Final = 32
DESTINATIONS_NAMED_MAX: Final = 5
WORDS_MAX: Final = 300
"""Characters of S3's own message."""
NOBODY: Final = "stream-app-check"
"""Stands in the key where a delivery has its identifier."""

ACCESS_DENIED: Final = "AccessDenied"
NO_SUCH_BUCKET: Final = "NoSuchBucket"
ASSUME_ROLE: Final = "AssumeRole"
CREDENTIALS: Final = CREDENTIALS_REFUSED | {
    "CredentialRetrievalError",
    "ExpiredToken",
    "ExpiredTokenException",
    "SSOTokenLoadError",
    "TokenRefreshRequired",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
"""A worker waits for those that can be renewed while it runs; here they are all a finding."""
ADVICE: Final[Mapping[str, str]] = {
    "AccessControlListNotSupported": (
        'the bucket takes no ACLs: leave acl out, or write "bucket-owner-full-control"'
    ),
    "HTTPClientError": "look at AWS_CA_BUNDLE and HTTPS_PROXY",
    "ProxyConnectionError": "look at HTTP_PROXY and HTTPS_PROXY",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SSLError": (
        "is TLS spoken there? Set AWS_CA_BUNDLE to a PEM file with the authority that signed its "
        "certificate"
    ),
}


@dataclass(frozen=True, slots=True)
class BucketCheck:
    """What S3 answered about one destination."""

    destination: str
    bucket: str
    prefix: str
    problems: tuple[str, ...]
    """One line each; destinations that share a problem have the same line. Empty: all is well."""


class _Target(NamedTuple):
    """What is asked about, however many destinations share it."""

    options: Destination
    key: str


class _Finding(NamedTuple):
    where: str
    what: str
    """What was found, and what to do."""


async def check_buckets(
    settings: Settings,
    *,
    answer_seconds_max: float = ANSWER_SECONDS_MAX,
    seconds_max: float = SECONDS_MAX,
) -> list[BucketCheck]:
    """Ask S3 whether each destination can be written; leave nothing behind.

    Args:
        settings: Whose destinations, in whose order they are returned.
        answer_seconds_max: How long S3 may take for one answer.
        seconds_max: When no further bucket is begun with.

    Raises:
        SetupError: Nothing can be asked: what the AWS tools' settings say cannot be used.
    """
    targets = dict.fromkeys(_target(destination) for destination in settings.destinations)
    async with Storage(settings.s3, answer_seconds_max=answer_seconds_max) as storage:
        turns = asyncio.Semaphore(ASKED_AT_ONCE_MAX)
        ends_at = asyncio.get_running_loop().time() + seconds_max

        async def in_turn(target: _Target) -> list[_Finding]:
            question = _Question(storage, *target)
            async with turns:
                if asyncio.get_running_loop().time() < ends_at:
                    return await question.ask()
            what = f"not asked within {seconds_max:.3g} s; run the check again"
            return [_Finding(question.at, what)]

        async with asyncio.TaskGroup() as group:
            tasks = {target: group.create_task(in_turn(target)) for target in targets}
    found = {target: task.result() for target, task in tasks.items()}
    concerned: dict[_Finding, list[str]] = {}
    for destination in settings.destinations:
        for finding in found[_target(destination)]:
            concerned.setdefault(finding, []).append(destination.id)
    lines = {finding: _line(finding, concerned[finding]) for finding in concerned}
    return [
        BucketCheck(
            destination.id,
            destination.bucket,
            destination.prefix,
            tuple(lines[finding] for finding in found[_target(destination)]),
        )
        for destination in settings.destinations
    ]


def _target(destination: Destination) -> _Target:
    key = object_key(destination.prefix, 0, NOBODY)
    nobody = replace(destination, id="", prefix="", pipeline=None, payload=PAYLOAD_DEFAULT)
    return _Target(nobody, key)


class _Question:
    """All that is asked about one bucket, key and set of options.

    Args:
        storage: Whom to ask.
        target: A destination, of which only bucket and options count.
        key: The key to ask about.
    """

    def __init__(self, storage: Storage, target: Destination, key: str) -> None:
        self._storage = storage
        self._target = target
        self._key = key

    @property
    def _place(self) -> str:
        return self._storage.clients.access(self._target).place

    @property
    def at(self) -> str:
        """Where S3 is, when it is not the bucket's doing."""
        return f"S3 at {self._place}"

    async def ask(self) -> list[_Finding]:
        """Return what was found, nothing if all is well."""
        findings = []
        try:
            await self._storage.location(self._target)
        except DeliveryError as error:
            findings.append(self._finding("GetBucketLocation", error))
            if error.code != ACCESS_DENIED or _asked(error) == ASSUME_ROLE:
                return findings
        try:
            upload_id = await self._storage.create_upload(self._target, self._key)
        except DeliveryError as error:
            return [*findings, *await self._not_created(error)]
        return [*findings, *await self._abort(upload_id)]

    async def _not_created(self, error: DeliveryError) -> list[_Finding]:
        finding = self._finding("CreateMultipartUpload", error)
        options = [name for name in OPTION_RIGHTS if getattr(self._target, name)]
        if isinstance(error, TransientError):
            left = f"an unfinished upload may be left in {self._target.bucket} under {self._key}"
            return [finding._replace(what=f"{finding.what}; {left}")]
        if error.code != ACCESS_DENIED or not options:
            return [finding]
        # Across accounts S3 does not say which right it is.
        plain = replace(self._target, acl=None, tags=None)
        allowed, findings = await self._is_allowed(plain)
        if not allowed:
            return [finding, *findings]
        for name in options:
            allowed, more = await self._is_allowed(
                replace(plain, **{name: getattr(self._target, name)})
            )
            findings += more
            if not allowed:
                what = self._missing(OPTION_RIGHTS[name], "CreateMultipartUpload", error)
                findings.append(_Finding(finding.where, f"{what} (for {name})"))
        return findings or [finding]

    async def _is_allowed(self, target: Destination) -> tuple[bool, list[_Finding]]:
        """Tell whether such an upload may be begun; it is aborted, and findings are of that."""
        try:
            upload_id = await self._storage.create_upload(target, self._key)
        except DeliveryError:
            return False, []
        return True, await self._abort(upload_id)

    async def _abort(self, upload_id: str) -> list[_Finding]:
        try:
            await self._storage.abort_upload(self._target, self._key, upload_id)
        except DeliveryError as error:
            finding = self._finding("AbortMultipartUpload", error)
            left = f"an unfinished upload is left; remove it with: {self._command(upload_id)}"
            return [finding._replace(what=f"{finding.what}; {left}")]
        return []

    def _finding(self, operation: str, error: DeliveryError) -> _Finding:
        """Say what an answer, or the lack of one, means and what to do."""
        asked = _asked(error)
        if asked == ASSUME_ROLE:
            return _Finding(f"role {self._target.role_arn}", self._role_refusal(error))
        answered = isinstance(error, PermanentError) or asked is not None
        if answered and error.code not in CREDENTIALS:
            return _Finding(f"bucket '{self._target.bucket}'", self._refusal(operation, error))
        # Not the bucket's doing: all that it concerns share one line.
        return _Finding(self.at, self._trouble(operation, error))

    def _role_refusal(self, error: DeliveryError) -> str:
        advice = (
            "allow sts:AssumeRole on it to our own credentials, and those in its trust policy; is "
            "external_id what the role's owner asks for?"
        )
        if error.code != ACCESS_DENIED:
            advice = CREDENTIALS_ADVICE if error.code in CREDENTIALS else "look the code up"
        return f"STS answered {error.code} to AssumeRole{_words(error)}; {advice}"

    def _missing(self, right: str, operation: str, error: DeliveryError) -> str:
        if right in ACTIONS:
            grant = "see: stream-app policy"
        elif right.startswith("s3:"):
            grant = "add it to what stream-app policy prints"
        else:
            grant = "no bucket policy grants it"
        owner = self._target.expected_bucket_owner
        if owner is not None:
            grant += f"; or the bucket is not account {owner}'s (expected_bucket_owner)"
        answer = f"S3 answered {error.code} to {operation}{_words(error)}"
        return f"{right} is missing: {answer}; {grant}"

    def _refusal(self, operation: str, error: DeliveryError) -> str:
        answer = f"S3 answered {error.code} to {operation}"
        if error.code == ACCESS_DENIED:
            return self._missing(missing_right(operation, error.message), operation, error)
        if error.code == NO_SUCH_BUCKET:
            return f"there is no such bucket at {self._place}; create it, or name another"
        is_elsewhere, region = region_named(error)
        if is_elsewhere:
            # A region that S3 names was asked already, and says the same again.
            return f"{self._elsewhere(region)} ({answer})"
        if isinstance(error, TransientError):
            advice = "run the check again"
        elif error.code.isdigit():
            # A proxy has no codes, only statuses.
            advice = f"is it S3 that answers at {self._place}?"
        else:
            advice = "look the code up"
        return f"{answer}{_words(error)}; {ADVICE.get(error.code, advice)}"

    def _trouble(self, operation: str, error: DeliveryError) -> str:
        if error.code in CREDENTIALS:
            found = f"{error.code}{_words(error)}"
            return f"our credentials are not accepted: {found}; {CREDENTIALS_ADVICE}"
        endpoint = self._setting("endpoint_url")
        if error.code == UNREADABLE:
            seen = f"the answer to {operation} is not one of S3's{_words(error)}"
            return f"{seen}; set {endpoint} to where S3 answers"
        reach = f"is it running? Set {endpoint} to where it is"
        if self._storage.clients.access(self._target).endpoint_url is None:
            region = self._setting("region")
            reach = f"look at {region}, and at what stands between here and AWS"
        return f"{operation} failed: {_reason(error)}; {ADVICE.get(error.code, reach)}"

    def _elsewhere(self, region: str | None) -> str:
        access = self._storage.clients.access(self._target)
        named = f"in another region than {access.region}" if region is None else f"in {region}"
        settings = self._setting("region")
        if access.endpoint_url is not None:
            settings = f"{self._setting('endpoint_url')} and region"
        return f"it is {named}; set {settings} to its own"

    def _setting(self, name: str) -> str:
        return f"[s3] {name}" if getattr(self._target, name) is None else f"its {name}"

    def _command(self, upload_id: str) -> str:
        command = ["aws", "s3api", "abort-multipart-upload", "--bucket", self._target.bucket]
        command += ["--key", self._key, "--upload-id", upload_id]
        endpoint_url = self._storage.clients.access(self._target).endpoint_url
        if endpoint_url is not None:
            command += ["--endpoint-url", endpoint_url]
        return shlex.join(command)


def _asked(error: DeliveryError) -> str | None:
    """Return the operation that AWS answered; None if it did not answer."""
    cause: Any = error.__cause__
    return str(cause.operation_name) if isinstance(cause, ClientError) else None


def _words(error: DeliveryError) -> str:
    """Return S3's message in parentheses; nothing where it only spells the code out."""
    words = error.message.strip().rstrip(".")
    return "" if words.replace(" ", "") in {"", error.code} else f" ({words[:WORDS_MAX]})"


def _reason(error: DeliveryError) -> str:
    """Return the system's words for a connection that failed, from within botocore's and aiohttp's.

    Theirs name the request, so they would be other ones for each bucket.
    """
    cause: Any = error.__cause__
    cause = getattr(cause, "kwargs", {}).get("error", cause)
    cause = getattr(cause, "os_error", cause)
    if isinstance(cause, OSError) and cause.errno is not None:
        named = isinstance(cause, ssl.SSLError | socket.gaierror)
        # asyncio puts words of its own where the system's would be.
        return str(cause.strerror) if named else os.strerror(cause.errno)
    return str(cause) or error.message


def _line(finding: _Finding, destinations: Sequence[str]) -> str:
    named = ", ".join(destinations[:DESTINATIONS_NAMED_MAX])
    if len(destinations) > DESTINATIONS_NAMED_MAX:
        named += f" and {len(destinations) - DESTINATIONS_NAMED_MAX} more"
    plural = "" if len(destinations) == 1 else "s"
    line = f"{finding.where} (destination{plural} {named}): {finding.what}"
    return printable(line)  # Much of it is S3's.
