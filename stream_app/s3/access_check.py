"""Access check of every destination's bucket before any delivery, for `stream-app check`.

For each bucket, prefix and set of options, with the region, endpoint and role of a delivery:

1. GetBucketLocation (HeadBucket for a directory bucket): does the bucket exist, and may we send
   requests?
2. CreateMultipartUpload under the prefix, with ACL, tags, encryption and the like: may we write?
3. Where encryption is requested, UploadPart of a few bytes: is it done, and by what S3 responds, as
   requested? Some servers fail only here, others ignore the request.
4. AbortMultipartUpload: may we abort?

Of the destinations of one bucket with the same options so many prefixes are tried; the others share
what these have found alike, and else are not checked.

Nothing is requested where the host of the endpoint begins with the bucket's name: such a server
would take the bucket's name for the beginning of each key.

An upload that is created and aborted is never an object, so nothing is ever visible. Its key has
the form of a delivery's, so a policy that allows deliveries allows it as well; but in place of the
64 hex digits of a delivery's key it has `stream-app-check`, so no delivery can ever have that key.

A missing right does not prevent the next request. Where a write with an ACL or tags is denied, it
is repeated without them, to find out which right is missing. Without the right to write there is
nothing to abort, and that right is not checked: servers respond variously for an upload that does
not exist, and an existing right would be reported as missing.
"""

import asyncio
import os
import shlex
import socket
import ssl
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from stream_app.config.bucket_names import endpoint_without_bucket, is_directory_bucket
from stream_app.config.settings import PAYLOAD_DEFAULT, Destination, Settings
from stream_app.core.object_format import FORMATS
from stream_app.core.object_key import object_key
from stream_app.errors import DeliveryError, PermanentError, TransientError
from stream_app.s3.bucket_policy import GRANTED, OPTION_RIGHTS, missing_right
from stream_app.s3.clients import CREDENTIALS_ADVICE
from stream_app.s3.encryption import other_encryption
from stream_app.s3.errors import CREDENTIALS_REFUSED, UNREADABLE, other_region
from stream_app.s3.storage import Storage
from stream_app.text import listed, printable

RESPONSE_SECONDS_MAX: Final = 10.0
"""Timeout of a request, shorter than a worker's: a person waits at a terminal."""
SECONDS_MAX: Final = 120.0
"""No check starts after this time; one that has started ends within three timeouts."""
CHECKS_MAX: Final = 32
PREFIXES_MAX: Final = 20
"""Prefixes of one bucket that are tried with the same options: 100,000 would take ten minutes, and
rights are hardly given by prefix to so many."""
DESTINATIONS_SHOWN_MAX: Final = 5
SHOWN_MESSAGE_LENGTH_MAX: Final = 300
"""Characters of S3's own message that are shown."""
PART: Final = b"stream-app-check"
"""Content of the part by which encryption is tried."""
KEY_ID: Final = "stream-app-check"
"""In place of the identifier in the key of a delivery."""

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
"""Codes of credentials that are not accepted. A worker waits for those that can be renewed while it
runs; here each is a finding."""
ADVICE: Final[Mapping[str, str]] = {
    "AccessControlListNotSupported": (
        'the bucket allows no ACLs: remove acl, or write "bucket-owner-full-control"'
    ),
    "HTTPClientError": "check AWS_CA_BUNDLE and HTTPS_PROXY",
    "ProxyConnectionError": "check HTTP_PROXY and HTTPS_PROXY",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SSLError": (
        "does the server use TLS? Set AWS_CA_BUNDLE to a PEM file with the authority that signed "
        "its certificate"
    ),
}


@dataclass(frozen=True, slots=True)
class BucketCheck:
    """Result of the access check of one destination."""

    destination: str
    bucket: str
    prefix: str
    problems: tuple[str, ...]
    """One line each; destinations that share a problem have the same line. Empty: none."""
    is_tried: bool = True
    """Whether its own prefix was tried."""

    @property
    def writable(self) -> bool | None:
        """Whether the destination can be written; None: unknown, since others were tried."""
        return False if self.problems else True if self.is_tried else None


class _Target(NamedTuple):
    """Subject of one check, which destinations can share."""

    options: Destination
    key: str


class _Finding(NamedTuple):
    subject: str
    text: str
    """The problem, and what to do."""


async def check_buckets(
    settings: Settings,
    *,
    response_seconds_max: float = RESPONSE_SECONDS_MAX,
    seconds_max: float = SECONDS_MAX,
) -> list[BucketCheck]:
    """Check with S3 whether each destination can be written, without a trace.

    Args:
        settings: The settings; the results are in the order of their destinations.
        response_seconds_max: Timeout of one request.
        seconds_max: Time after which no further check starts.

    Raises:
        SetupError: The settings of the AWS tools cannot be used.
    """
    targets = [_target(destination) for destination in settings.destinations]
    tried = _tried(targets)
    waiting = iter(tried)
    findings: dict[_Target, list[_Finding]] = {}
    async with Storage(settings.s3, response_seconds_max=response_seconds_max) as storage:
        ends_at = asyncio.get_running_loop().time() + seconds_max

        async def check_next() -> None:
            for target in waiting:
                bucket = _BucketAccess(storage, *target)
                if asyncio.get_running_loop().time() < ends_at:
                    findings[target] = await bucket.check()
                else:
                    text = f"not checked within {seconds_max:.3g} s; run the check again"
                    findings[target] = [_Finding(bucket.server, text)]

        async with asyncio.TaskGroup() as group:
            for _ in range(min(CHECKS_MAX, len(tried))):
                group.create_task(check_next())
    alike = _alike(findings)
    found = [findings.get(target, alike[target.options]) for target in targets]
    affected: dict[_Finding, list[str]] = {}
    for destination, of_target in zip(settings.destinations, found, strict=True):
        for finding in of_target:
            affected.setdefault(finding, []).append(destination.id)
    lines = {finding: _line(finding, affected[finding]) for finding in affected}
    return [
        BucketCheck(
            destination.id,
            destination.bucket,
            destination.prefix,
            tuple(lines[finding] for finding in of_target),
            is_tried=target in findings,
        )
        for destination, target, of_target in zip(
            settings.destinations, targets, found, strict=True
        )
    ]


def _tried(targets: Sequence[_Target]) -> list[_Target]:
    """Return the targets that are tried: some of all keys with the same options, evenly spread."""
    by_options: defaultdict[Destination, list[_Target]] = defaultdict(list)
    for target in dict.fromkeys(targets):
        by_options[target.options].append(target)
    return [it for same in by_options.values() for it in same[:: -(-len(same) // PREFIXES_MAX)]]


def _alike(findings: Mapping[_Target, list[_Finding]]) -> dict[Destination, list[_Finding]]:
    """Return what all targets with the same options have found."""
    alike: dict[Destination, list[_Finding]] = {}
    for target, found in findings.items():
        before = alike.get(target.options, found)
        alike[target.options] = [it for it in before if it in found]
    return alike


def _target(destination: Destination) -> _Target:
    key = object_key(destination.prefix, 0, KEY_ID, FORMATS[destination.format])
    options = replace(destination, id="", prefix="", pipeline=None, payload=PAYLOAD_DEFAULT)
    return _Target(options, key)


class _BucketAccess:
    """Access check of one bucket, key and set of options.

    Args:
        storage: The S3 storage.
        target: A destination, of which only bucket and options count.
        key: The key of the upload.
    """

    def __init__(self, storage: Storage, target: Destination, key: str) -> None:
        self._storage = storage
        self._target = target
        self._key = key

    @property
    def _endpoint(self) -> str:
        return self._storage.clients.access(self._target).endpoint

    @property
    def server(self) -> str:
        """The subject of findings that are not about the bucket."""
        return f"S3 at {self._endpoint}"

    async def check(self) -> list[_Finding]:
        """Return the findings, none if the bucket can be written."""
        findings = self._bucket_in_endpoint()
        if findings:
            return findings
        try:
            await self._storage.location(self._target)
        except DeliveryError as error:
            is_directory = is_directory_bucket(self._target.bucket)  # It has one right for all.
            operation = "HeadBucket" if is_directory else "GetBucketLocation"
            findings.append(self._finding(operation, error))
            if error.code != ACCESS_DENIED or _operation(error) == ASSUME_ROLE or is_directory:
                return findings
        try:
            upload_id = await self._storage.create_upload(self._target, self._key)
        except DeliveryError as error:
            return [*findings, *await self._not_created(error)]
        findings += await self._encryption(upload_id)
        return [*findings, *await self._abort(upload_id)]

    def _bucket_in_endpoint(self) -> list[_Finding]:
        """Return the finding that the endpoint's host has the bucket's name already."""
        bucket, clients = self._target.bucket, self._storage.clients
        endpoint_url = clients.access(self._target).endpoint_url
        if endpoint_url is None or clients.addressing_style(self._target) == "path":
            return []
        other = endpoint_without_bucket(endpoint_url, bucket)
        if other is None:
            return []
        text = (
            f"the host of {self._setting('endpoint_url')} ({endpoint_url}) begins with the "
            "bucket's name, which so would be in each request twice; set endpoint_url to "
            f'{other} and addressing_style to "virtual"; or addressing_style to "path" if the '
            "server itself has that name"
        )
        return [_Finding(f"bucket '{bucket}'", text)]

    async def _encryption(self, upload_id: str) -> list[_Finding]:
        """Return the finding that objects would not be stored with the requested encryption."""
        target = self._target
        if target.sse is None:
            return []
        try:
            response = await self._storage.send_part(target, self._key, upload_id, PART)
        except DeliveryError as error:
            finding = self._finding("UploadPart", error)
            return [finding._replace(text=f'{finding.text} (with sse = "{target.sse}")')]
        stated = other_encryption(target, response)
        if stated is None:
            return []
        text = (
            f'sse is "{target.sse}", but the encryption in S3\'s response to UploadPart is: '
            f"{stated}; objects would be stored without the requested one; remove sse, or use a "
            "server that has it"
        )
        return [_Finding(f"bucket '{target.bucket}'", text)]

    async def _not_created(self, error: DeliveryError) -> list[_Finding]:
        finding = self._finding("CreateMultipartUpload", error)
        options = [name for name in OPTION_RIGHTS if getattr(self._target, name)]
        if isinstance(error, TransientError):
            left = f"an unfinished upload may be left in {self._target.bucket} under {self._key}"
            return [finding._replace(text=f"{finding.text}; {left}")]
        if error.code != ACCESS_DENIED or not options:
            return [finding]
        # Across accounts S3 does not return which right it is.
        plain = replace(self._target, **dict.fromkeys(OPTION_RIGHTS))  # type: ignore[arg-type] # options of None
        allowed, findings = await self._is_allowed(plain)
        if not allowed:
            return [finding, *findings]
        for name in options:
            allowed, more = await self._is_allowed(
                replace(plain, **{name: getattr(self._target, name)})
            )
            findings += more
            if not allowed:
                text = self._missing(OPTION_RIGHTS[name], "CreateMultipartUpload", error)
                findings.append(_Finding(finding.subject, f"{text} (for {name})"))
        return findings or [finding]

    async def _is_allowed(self, target: Destination) -> tuple[bool, list[_Finding]]:
        """Return whether an upload can be created, and the findings of its abort."""
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
            return [finding._replace(text=f"{finding.text}; {left}")]
        return []

    def _finding(self, operation: str, error: DeliveryError) -> _Finding:
        """Return the meaning of an error, and what to do."""
        failed = _operation(error)
        if failed == ASSUME_ROLE:
            return _Finding(f"role {self._target.role_arn}", self._role_refusal(error))
        has_responded = isinstance(error, PermanentError) or failed is not None
        if has_responded and error.code not in CREDENTIALS:
            return _Finding(f"bucket '{self._target.bucket}'", self._refusal(operation, error))
        # Not about the bucket: all destinations with this server share one line.
        return _Finding(self.server, self._failure(operation, error))

    def _role_refusal(self, error: DeliveryError) -> str:
        advice = (
            "allow sts:AssumeRole on it to our own credentials, and those in its trust policy; is "
            "external_id the one that its trust policy requires?"
        )
        if error.code != ACCESS_DENIED:
            advice = CREDENTIALS_ADVICE if error.code in CREDENTIALS else "look up the code"
        return f"STS returned {error.code} for AssumeRole{_message(error)}; {advice}"

    def _missing(self, right: str, operation: str, error: DeliveryError) -> str:
        if right.startswith("s3express:"):
            grant = "allow it in the directory bucket's policy, or to our own credentials"
        elif right in GRANTED:
            grant = "see: stream-app policy"
        elif right.startswith("s3:"):
            grant = "add it to what stream-app policy prints"
        else:
            grant = "no bucket policy grants it"
        owner = self._target.expected_bucket_owner
        if owner is not None:
            grant += f"; or the bucket is not account {owner}'s (expected_bucket_owner)"
        response = f"S3 returned {error.code} for {operation}{_message(error)}"
        return f"{right} is missing: {response}; {grant}"

    def _refusal(self, operation: str, error: DeliveryError) -> str:
        response = f"S3 returned {error.code} for {operation}"
        if error.code == ACCESS_DENIED:
            needs = "CreateSession" if is_directory_bucket(self._target.bucket) else operation
            return self._missing(missing_right(needs, error.message), operation, error)
        if error.code == NO_SUCH_BUCKET:
            return f"there is no such bucket at {self._endpoint}; create it, or name another"
        is_elsewhere, region = other_region(error)
        if is_elsewhere:
            # A region that S3 has named was tried already.
            return f"{self._elsewhere(region)} ({response})"
        if isinstance(error, TransientError):
            advice = "run the check again"
        elif error.code.isdigit():
            # A proxy has no codes, only statuses.
            advice = f"is the server at {self._endpoint} S3?"
        else:
            advice = "look up the code"
        return f"{response}{_message(error)}; {ADVICE.get(error.code, advice)}"

    def _failure(self, operation: str, error: DeliveryError) -> str:
        if error.code in CREDENTIALS:
            code = f"{error.code}{_message(error)}"
            return f"our credentials are not accepted: {code}; {CREDENTIALS_ADVICE}"
        endpoint = self._setting("endpoint_url")
        if error.code == UNREADABLE:
            text = f"the response to {operation} is not one of S3{_message(error)}"
            return f"{text}; set {endpoint} to the URL of S3"
        advice = f"is it running? Set {endpoint} to its URL"
        if self._storage.clients.access(self._target).endpoint_url is None:
            region = self._setting("region")
            advice = f"check {region}, and the network between this machine and AWS"
        return f"{operation} failed: {_reason(error)}; {ADVICE.get(error.code, advice)}"

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


def _operation(error: DeliveryError) -> str | None:
    """Return the operation that AWS has responded to; None if it has not responded."""
    cause: Any = error.__cause__
    return str(cause.operation_name) if isinstance(cause, ClientError) else None


def _message(error: DeliveryError) -> str:
    """Return S3's message in parentheses; empty where it only repeats the code."""
    text = error.message.strip().rstrip(".")
    return (
        "" if text.replace(" ", "") in {"", error.code} else f" ({text[:SHOWN_MESSAGE_LENGTH_MAX]})"
    )


def _reason(error: DeliveryError) -> str:
    """Return the system's message for a failed connection, from the cause of botocore's error.

    The messages of botocore and aiohttp name the request, so they would differ for each bucket.
    """
    cause: Any = error.__cause__
    cause = getattr(cause, "kwargs", {}).get("error", cause)
    cause = getattr(cause, "os_error", cause)
    if isinstance(cause, OSError) and cause.errno is not None:
        named = isinstance(cause, ssl.SSLError | socket.gaierror)
        # asyncio replaces the system's message with one of its own.
        return str(cause.strerror) if named else os.strerror(cause.errno)
    return str(cause) or error.message


def _line(finding: _Finding, destinations: Sequence[str]) -> str:
    line = f"{finding.subject} ({named(destinations)}): {finding.text}"
    return printable(line)  # Much of it is text of S3.


def named(destinations: Sequence[str]) -> str:
    """Return the ids of destinations as one text of bounded length."""
    return listed("destination", destinations, DESTINATIONS_SHOWN_MAX)
