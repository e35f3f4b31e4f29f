"""Asking S3 whether deliveries can be written, before there are any: for `stream-app check`.

For each bucket and prefix:

1. GetBucketLocation: may we ask, is there such a bucket, and is it where we look for it?
2. CreateMultipartUpload under the prefix: may we put?
3. AbortMultipartUpload: may we take it back?

An upload that is begun and aborted is never an object, so nobody can see anything at any time. Its
key has a delivery's form, so whatever allows deliveries allows it as well; but where a delivery's
has 64 hex digits it has the words `stream-app-check`, so no delivery can ever have it.

A right that is missing does not keep the next question from being asked. Without the right to put
there is nothing to abort, and that right is not asked for: servers answer variously about an upload
that does not exist, and a right that is there would be called missing.
"""

import asyncio
import os
import shlex
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from stream_app.errors import DeliveryError, PermanentError, TransientError
from stream_app.objects import object_key
from stream_app.policy import ACTIONS, missing_right, other_region
from stream_app.s3 import (
    CREDENTIALS_ADVICE,
    CREDENTIALS_REFUSED,
    UNREADABLE,
    Storage,
    place,
)
from stream_app.settings import S3, Destination, Settings

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
MOVED: Final = frozenset(
    {
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
    }
)
MISADDRESSED: Final = "AuthorizationHeaderMalformed"
"""Another region only if S3 names one."""
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
    """What is asked about, however many destinations have it."""

    bucket: str
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
            async with turns:
                if asyncio.get_running_loop().time() < ends_at:
                    return await _ask(storage, settings.s3, target)
            what = f"not asked within {seconds_max:.3g} s; run the check again"
            return [_Finding(_at(settings.s3), what)]

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
    return _Target(destination.bucket, object_key(destination.prefix, 0, NOBODY))


async def _ask(storage: Storage, s3: S3, target: _Target) -> list[_Finding]:
    """Ask all that can be asked about one bucket and prefix."""
    bucket, key = target
    findings = []
    try:
        location = await storage.location(bucket)
    except DeliveryError as error:
        findings.append(_finding(s3, bucket, "GetBucketLocation", error))
        if error.code != ACCESS_DENIED:
            return findings
    else:
        region = other_region(location, s3)
        if region is not None:
            findings.append(_Finding(f"bucket '{bucket}'", _elsewhere(s3, region)))
    try:
        upload_id = await storage.create_upload(bucket, key)
    except DeliveryError as error:
        finding = _finding(s3, bucket, "CreateMultipartUpload", error)
        if isinstance(error, TransientError):
            what = f"{finding.what}; an unfinished upload may be left in {bucket} under {key}"
            finding = finding._replace(what=what)
        return [*findings, finding]
    try:
        await storage.abort_upload(bucket, key, upload_id)
    except DeliveryError as error:
        finding = _finding(s3, bucket, "AbortMultipartUpload", error)
        left = f"an unfinished upload is left; remove it with: {_abort(s3, target, upload_id)}"
        findings.append(finding._replace(what=f"{finding.what}; {left}"))
    return findings


def _finding(s3: S3, bucket: str, operation: str, error: DeliveryError) -> _Finding:
    """Say what an answer, or the lack of one, means and what to do."""
    answered = isinstance(error, PermanentError) or isinstance(error.__cause__, ClientError)
    if answered and error.code not in CREDENTIALS:
        return _Finding(f"bucket '{bucket}'", _refusal(s3, operation, error))
    # Not the bucket's doing: all that it concerns share one line.
    return _Finding(_at(s3), _trouble(s3, operation, error))


def _refusal(s3: S3, operation: str, error: DeliveryError) -> str:
    answer = f"S3 answered {error.code} to {operation}"
    if error.code == ACCESS_DENIED:
        right = missing_right(operation, error.message)
        grant = "see: stream-app policy" if right in ACTIONS else "no bucket policy grants it"
        return f"{right} is missing: {answer}{_words(error)}; {grant}"
    if error.code == NO_SUCH_BUCKET:
        return f"there is no such bucket at {place(s3)}; create it, or name another"
    region = _region_named(error)
    if error.code in MOVED or region is not None:
        return f"{_elsewhere(s3, region)} ({answer})"
    if isinstance(error, TransientError):
        advice = "run the check again"
    elif error.code.isdigit():
        advice = f"is it S3 that answers at {place(s3)}?"  # a proxy has no codes, only statuses
    else:
        advice = "look the code up"
    return f"{answer}{_words(error)}; {ADVICE.get(error.code, advice)}"


def _trouble(s3: S3, operation: str, error: DeliveryError) -> str:
    if error.code in CREDENTIALS:
        return (
            f"our credentials are not accepted: {error.code}{_words(error)}; {CREDENTIALS_ADVICE}"
        )
    if error.code == UNREADABLE:
        seen = f"the answer to {operation} is not one of S3's{_words(error)}"
        return f"{seen}; set [s3] endpoint_url to where S3 answers"
    reach = (
        "look at [s3] region, and at what stands between here and AWS"
        if s3.endpoint_url is None
        else "is it running? Set [s3] endpoint_url to where it is"
    )
    return f"{operation} failed: {_reason(error)}; {ADVICE.get(error.code, reach)}"


def _at(s3: S3) -> str:
    return f"S3 at {place(s3)}"


def _elsewhere(s3: S3, region: str | None) -> str:
    if s3.endpoint_url is not None:
        named = "another region" if region is None else f"region {region}"
        return f"it is in {named}; set [s3] endpoint_url and region to that region's"
    if region is None:
        return f"it is not in region {s3.region}; set [s3] region to its own"
    return f'it is in region {region}, not in {s3.region}; set [s3] region = "{region}"'


def _region_named(error: DeliveryError) -> str | None:
    """Return the region that a redirect names, if it is one and does."""
    if not isinstance(error.__cause__, ClientError) or error.code not in MOVED | {MISADDRESSED}:
        return None
    response: Mapping[str, Any] = error.__cause__.response
    region: str | None = response["Error"].get("Region")
    return response["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region") or region


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


def _abort(s3: S3, target: _Target, upload_id: str) -> str:
    command = ["aws", "s3api", "abort-multipart-upload", "--bucket", target.bucket]
    command += ["--key", target.key, "--upload-id", upload_id]
    if s3.endpoint_url is not None:
        command += ["--endpoint-url", s3.endpoint_url]
    return shlex.join(command)


def _line(finding: _Finding, destinations: Sequence[str]) -> str:
    named = ", ".join(destinations[:DESTINATIONS_NAMED_MAX])
    if len(destinations) > DESTINATIONS_NAMED_MAX:
        named += f" and {len(destinations) - DESTINATIONS_NAMED_MAX} more"
    plural = "" if len(destinations) == 1 else "s"
    line = f"{finding.where} (destination{plural} {named}): {finding.what}"
    # Much of it is S3's: keep it on its line, and from steering the terminal.
    return "".join(it if it.isprintable() else repr(it)[1:-1] for it in line)
