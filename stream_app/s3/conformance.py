"""Conformance check of S3 servers, for `stream-app check --conformance`.

Of each server and bucket of the destinations it asks by real writes what deliveries rely on:
conditional writes, also of several writers at once, checksums, uploads that are cut, aborts, and
the destination's options. `conformance_verdict` decides what the responses mean.

All objects are in a folder of their own under the destination's prefix, whose random name no
delivery has, and no other key is read or written. Each is compressed and empty, so that a reader of
the prefix finds no line in it. At the end they are removed where S3 allows that.
"""

import asyncio
import base64
import contextlib
import shlex
import uuid
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from botocore.exceptions import ClientError

from stream_app.config.settings import MIB, PAYLOAD_DEFAULT, Checksum, Destination, Settings
from stream_app.core.object_body import PART_BYTES_MIN
from stream_app.core.object_format import FORMATS
from stream_app.errors import DeliveryError, TransientError, UploadGoneError
from stream_app.s3.access_check import named
from stream_app.s3.body import ALGORITHMS, BodyStream, checksum
from stream_app.s3.conformance_verdict import (
    ChecksumTrial,
    Kind,
    Observations,
    Race,
    Removal,
    Response,
    Result,
    TornUpload,
    Verdict,
    verdicts,
)
from stream_app.s3.errors import NOT_FOUND, PRECONDITION_FAILED
from stream_app.s3.multipart import content_seconds_max
from stream_app.s3.storage import Storage, object_options

NAME: Final = "stream-app-conformance"
"""Beginning of the name of the folder; a random part follows."""
RESPONSE_SECONDS_MAX: Final = 10.0
"""Timeout of a request without content."""
BUCKET_SECONDS_MAX: Final = 180.0
"""Time for the questions about one bucket; those that are left then are not asked."""
REMOVAL_SECONDS_MAX: Final = 60.0
SECONDS_MAX: Final = 900.0
"""No bucket is begun after this time."""
RACE_KEYS: Final = 12
"""Keys of one race: a server that does not serialize its writers lets two through for a few."""
RACE_WRITERS: Final = 4
BODY_BYTES: Final = 64 * 1024
TORN_BYTES: Final = (1, 64 * 1024)
"""Bytes of a body that are sent before its connection is closed."""
TORN_BODY_BYTES: Final = 256 * 1024
EQUAL_PARTS: Final = (PART_BYTES_MIN, PART_BYTES_MIN, 1)
UNEQUAL_PARTS: Final = (PART_BYTES_MIN + MIB, PART_BYTES_MIN, 1)
REMOVALS_AT_ONCE_MAX: Final = 8
OPTIONS: Final = (
    *("acl", "content_encoding", "expected_bucket_owner", "sse", "storage_class", "tags"),
)
"""Options that a server can refuse."""
CONFLICT: Final = "ConditionalRequestConflict"
"""Code of a server that lets none or one of several writers through."""
CONDITION: Final[Mapping[str, Any]] = {"IfNoneMatch": "*"}
CHECKSUMS: Final[tuple[Checksum, ...]] = ("sha256", "crc32", "md5")
METADATA: Final = {"lines": "0", "uncompressed-size": "0"}
OTHER_ACCOUNTS: Final = ("000000000000", "111111111111")


class Conformance(NamedTuple):
    """Result for one server and bucket."""

    endpoint: str
    bucket: str
    folder: str
    """Beginning of the keys of all objects that were written."""
    destinations: tuple[str, ...]
    """Ids of those that share server, bucket and options."""
    verdicts: tuple[Verdict, ...]

    def faults(self) -> list[str]:
        """Return a line for each fault: where, what, its meaning, and what to set."""
        where = f"{self.endpoint}, bucket '{self.bucket}' ({named(self.destinations)})"
        return [
            f"{where}: {it.question}: {it.found}; {it.meaning}; "
            + (f"set or change: {it.setting}" if it.setting else "no setting avoids it")
            for it in self.verdicts
            if it.result is Result.FAILED
        ]


class TornBody(BodyStream):
    """Body whose sending ends in the middle with an error, so that the connection is closed.

    botocore reads a body in the event loop, to sign it; aiohttp sends it from a thread.
    """

    def __init__(self, content: bytes, sent_max: int) -> None:
        super().__init__(content)
        self._left = sent_max
        self.is_torn = False

    def read(self, size: int = -1) -> bytes:
        """Return bytes of the content.

        Raises:
            ConnectionAbortedError: As many bytes as may be sent were read by a thread.
        """
        if _is_in_loop():
            return super().read(size)
        if self._left == 0:
            self.is_torn = True
            raise ConnectionAbortedError("the body is cut on purpose")
        piece = super().read(self._left if size < 0 else min(size, self._left))
        self._left -= len(piece)
        return piece


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def check_conformance(
    settings: Settings,
    *,
    response_seconds_max: float = RESPONSE_SECONDS_MAX,
    bucket_seconds_max: float = BUCKET_SECONDS_MAX,
    seconds_max: float = SECONDS_MAX,
) -> list[Conformance]:
    """Check each server, bucket and set of options, one after the other.

    Args:
        settings: The settings.
        response_seconds_max: Timeout of a request without content.
        bucket_seconds_max: Time for one bucket.
        seconds_max: Time after which no bucket is begun.

    Raises:
        SetupError: The settings of the AWS tools cannot be used.
    """
    shared: dict[Destination, list[Destination]] = {}
    for destination in settings.destinations:
        options = replace(destination, id="", prefix="", pipeline=None, payload=PAYLOAD_DEFAULT)
        shared.setdefault(options, []).append(destination)
    results = []
    ends_at = asyncio.get_running_loop().time() + seconds_max
    async with Storage(settings.s3, response_seconds_max=response_seconds_max) as storage:
        for first, *others in shared.values():
            trial = _Trial(storage, first)
            if asyncio.get_running_loop().time() < ends_at:
                await trial.run(bucket_seconds_max)
            result = Conformance(
                storage.clients.access(first).endpoint,
                first.bucket,
                trial.folder,
                tuple(it.id for it in (first, *others)),
                tuple(verdicts(first, trial.seen)),
            )
            results.append(result)
    return results


@dataclass(frozen=True, slots=True)
class _Upload:
    """Multipart upload whose parts are sent."""

    key: str
    id: str
    sent: Sequence[Mapping[str, Any]]


class _Trial:
    """Trial of one bucket.

    Args:
        storage: The S3 storage.
        destination: The destination.
    """

    def __init__(self, storage: Storage, destination: Destination) -> None:
        self.seen = Observations()
        self._storage = storage
        self._destination = destination
        self._format = FORMATS[destination.format]
        prefix = destination.prefix
        above = prefix if not prefix or prefix.endswith("/") else prefix + "/"
        self.folder = f"{above}{NAME}-{uuid.uuid4().hex[:12]}/"
        self._keys: set[str] = set()
        """Keys of all objects that were written, perhaps."""

    async def run(self, seconds_max: float) -> None:
        """Ask all questions within the time, then remove all objects."""
        try:
            # A question that was not reached has the verdict `unknown`.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds_max):
                    await self._ask_all()
        finally:
            await self._remove()

    async def _ask_all(self) -> None:
        if not await self._is_written():
            return
        await self._ask_about_head()
        await self._ask_about_conditions()
        if self.seen.put_new.is_done or not self._destination.conditional_writes:
            content = self._content(BODY_BYTES, "write")
            self.seen.found_again, _ = await self._responded(
                self._storage.put(self._destination, self._key("write"), content, lines=0, size=0)
            )
        torn = [await self._tear(sent) for sent in TORN_BYTES]
        await self._ask_about_parts()
        await self._ask_about_races()
        for name in CHECKSUMS:
            self.seen.checksums = {**self.seen.checksums, name: await self._try_checksum(name)}
        await self._ask_about_abort()
        await self._ask_about_options()
        # Late: a server may store what has come only after a while.
        self.seen.torn_uploads = [
            TornUpload(sent, await self._exists(self._key(f"torn-{sent}")) if is_torn else None)
            for sent, is_torn in zip(TORN_BYTES, torn, strict=True)
        ]

    # --- questions ------------------------------------------------------------------------------

    async def _is_written(self) -> bool:
        """Return whether a plain write succeeds; if not, find the options that are in the way."""
        key, content = self._key("write"), self._content(BODY_BYTES, "write")
        seen = self.seen
        seen.write, _ = await self._responded(self._put(self._destination, key, content))
        if seen.write.is_refused:
            options = [it for it in OPTIONS if getattr(self._destination, it) is not None]
            plain = replace(
                self._destination,
                kms_key_id=None,
                **dict.fromkeys(OPTIONS),  # type: ignore[arg-type] # options of None
            )
            refused = []
            for option in options:
                changed = {option: getattr(self._destination, option)}
                if option == "sse":
                    changed["kms_key_id"] = self._destination.kms_key_id
                one, _ = await self._responded(self._put(replace(plain, **changed), key, content))
                if one.is_refused:
                    refused.append(option)
            seen.refused_options = refused
            if len(refused) == len(options):
                self._keys.clear()
        return seen.write.is_done

    async def _ask_about_head(self) -> None:
        seen = self.seen
        seen.head_existing, head = await self._responded(self._head(self._key("write")))
        seen.head_missing, _ = await self._responded(self._head(self._key("missing")))
        if seen.head_existing.is_done:
            seen.stored = {"PutObject": head}

    async def _ask_about_conditions(self) -> None:
        seen, key = self.seen, self._key("conditional-put")
        seen.put_new, _ = await self._responded(
            self._put(self._destination, key, self._content(BODY_BYTES, "first"), CONDITION)
        )
        if seen.put_new.is_done:
            seen.put_existing, _ = await self._responded(
                self._put(self._destination, key, self._content(BODY_BYTES, "second"), CONDITION)
            )
        key = self._key("conditional-complete")
        seen.complete_new = await self._write_parts(key, (BODY_BYTES,), CONDITION)
        if seen.complete_new.is_done:
            seen.complete_existing = await self._write_parts(key, (BODY_BYTES + 1,), CONDITION)

    async def _ask_about_parts(self) -> None:
        seen, key = self.seen, self._key("parts")
        seen.write_parts = await self._write_parts(key, EQUAL_PARTS)
        if not seen.write_parts.is_done:
            return
        response, head = await self._responded(self._head(key))
        if response.is_done:
            seen.stored = {**seen.stored, "CompleteMultipartUpload": head}
        seen.unequal_parts = await self._write_parts(self._key("unequal-parts"), UNEQUAL_PARTS)

    async def _ask_about_races(self) -> None:
        if self.seen.put_existing.kind is Kind.EXISTS:
            self.seen.put_races = [await self._race_puts(it) for it in range(RACE_KEYS)]
        if self.seen.complete_existing.kind is Kind.EXISTS:
            self.seen.complete_races = [await self._race_completes(it) for it in range(RACE_KEYS)]

    async def _race_puts(self, number: int) -> Race:
        key = self._key(f"race-put-{number}")
        bodies = [self._content(BODY_BYTES, f"writer {it}") for it in range(RACE_WRITERS)]
        return await self._race(
            [self._put(self._destination, key, body, CONDITION) for body in bodies]
        )

    async def _race_completes(self, number: int) -> Race:
        key = self._key(f"race-complete-{number}")
        uploads = [await self._send_parts(key, (BODY_BYTES + it,)) for it in range(RACE_WRITERS)]
        try:
            return await self._race([self._complete(it, CONDITION) for it in uploads])
        finally:
            for upload in uploads:
                await self._give_up(upload)

    async def _race(self, writes: Sequence[Awaitable[Any]]) -> Race:
        responses = await asyncio.gather(*(self._responded(it) for it in writes))
        kinds = [it.kind for it, _ in responses]
        conflicts = sum(it.code == CONFLICT for it, _ in responses)
        written = kinds.count(Kind.DONE)
        return Race(written, len(kinds) - written - kinds.count(Kind.EXISTS) - conflicts)

    async def _try_checksum(self, name: Checksum) -> ChecksumTrial:
        destination = replace(self._destination, checksum=name)
        algorithm = ALGORITHMS[name]
        content = self._content(BODY_BYTES, "checksum")
        digest = base64.b64encode(algorithm.digest(content + b"other")).decode()
        wrong: dict[str, Any] = {algorithm.argument: digest}
        right, _ = await self._responded(
            self._put(destination, self._key(f"checksum-right-{name}"), content)
        )
        key = self._key(f"checksum-wrong-{name}")
        refused, _ = await self._responded(self._put(destination, key, content, wrong))
        is_stored = await self._exists(key)

        async def send_part() -> None:
            key = self._key(f"checksum-part-{name}")
            upload = _Upload(key, await self._storage.begin(destination, key), ())
            try:
                await self._storage.clients.ask(
                    destination,
                    "upload_part",
                    Key=key,
                    UploadId=upload.id,
                    PartNumber=1,
                    Body=content,
                    **wrong,
                )
            finally:
                await self._give_up(upload)

        part, _ = await self._responded(send_part())
        return ChecksumTrial(right, refused, is_stored, part)

    async def _tear(self, sent: int) -> bool:
        """Send an upload that is cut; return whether it was sent at all."""
        content = self._content(TORN_BODY_BYTES, "torn")
        body = TornBody(content, sent)
        algorithm = ALGORITHMS[self._destination.checksum]
        digest = {algorithm.argument: await checksum(algorithm, content)}
        key = self._key(f"torn-{sent}")
        await self._responded(self._put(self._destination, key, body, digest))
        return body.is_torn

    async def _ask_about_abort(self) -> None:
        key = self._key("abort")
        written, _ = await self._responded(
            self._put(self._destination, key, self._content(BODY_BYTES, "stays"))
        )
        if not written.is_done:
            return

        async def abort() -> None:
            upload = await self._send_parts(key, (BODY_BYTES,))
            await self._storage.abort_upload(self._destination, key, upload.id)

        self.seen.abort, _ = await self._responded(abort())
        if self.seen.abort.is_done:
            self.seen.has_survived_abort = await self._exists(key)

    async def _ask_about_options(self) -> None:
        key, destination, seen = self._key("write"), self._destination, self.seen
        ask = self._storage.clients.ask
        if destination.tags is not None:
            response, found = await self._responded(ask(destination, "get_object_tagging", Key=key))
            if response.is_done:
                seen.stored_tags = {it["Key"]: it["Value"] for it in found.get("TagSet", ())}
        if destination.acl is not None:
            response, found = await self._responded(ask(destination, "get_object_acl", Key=key))
            if response.is_done:
                seen.stored_grants = [
                    (it.get("Grantee", {}).get("URI"), it.get("Permission", ""))
                    for it in found.get("Grants", ())
                ]
        if destination.expected_bucket_owner is not None:
            other = next(it for it in OTHER_ACCOUNTS if it != destination.expected_bucket_owner)
            seen.wrong_owner, _ = await self._responded(
                self._put(
                    replace(destination, expected_bucket_owner=other),
                    self._key("owner"),
                    self._content(BODY_BYTES, "owner"),
                )
            )

    async def _exists(self, key: str) -> bool | None:
        """Return whether there is an object; None: it cannot be seen.

        Without the right to read, a conditional write finds out, where the server knows those.
        """
        response, _ = await self._responded(self._head(key))
        if response.is_done:
            return True
        if response.kind is Kind.MISSING:
            return False
        if self.seen.put_existing.kind is Kind.EXISTS:
            content = self._content(BODY_BYTES, "exists")
            response, _ = await self._responded(
                self._put(self._destination, key, content, CONDITION)
            )
            return {Kind.EXISTS: True, Kind.DONE: False}.get(response.kind)
        return None

    # --- requests -------------------------------------------------------------------------------

    def _key(self, name: str) -> str:
        return f"{self.folder}{name}{self._format.suffix}"

    def _content(self, size: int, comment: str) -> bytes:
        """Return an object of this size without lines."""
        return self._format.without_lines(size, f"{NAME} {comment} ")

    async def _responded(self, request: Awaitable[Any]) -> tuple[Response, Mapping[str, Any]]:
        """Return the response to a request, and its fields."""
        try:
            fields = await request
        except UploadGoneError as error:
            return Response(Kind.REFUSED, error.code), {}
        except DeliveryError as error:
            return Response(_kind(error), error.code), {}
        return Response(), fields if isinstance(fields, Mapping) else {}

    async def _put(
        self,
        destination: Destination,
        key: str,
        body: bytes | BodyStream,
        arguments: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """Put an object with all options of a destination.

        Args:
            destination: The destination.
            key: The key.
            body: The content.
            arguments: Further parameters; with one of the right checksum unless they have one.
        """
        self._keys.add(key)
        arguments = dict(arguments or {})
        algorithm = ALGORITHMS[destination.checksum]
        if isinstance(body, bytes) and algorithm.argument not in arguments:
            arguments[algorithm.argument] = await checksum(algorithm, body)
        return await self._storage.clients.ask(
            destination,
            "put_object",
            Key=key,
            Body=body,
            Metadata=METADATA,
            **arguments,
            **object_options(destination),
        )

    async def _head(self, key: str) -> Mapping[str, Any]:
        return await self._storage.clients.ask(self._destination, "head_object", Key=key)

    async def _write_parts(
        self, key: str, sizes: Sequence[int], condition: Mapping[str, Any] | None = None
    ) -> Response:
        """Write an object in parts of these sizes."""

        async def write() -> None:
            upload = await self._send_parts(key, sizes)
            try:
                await self._complete(upload, condition)
            except BaseException:
                await self._give_up(upload)
                raise

        response, _ = await self._responded(write())
        return response

    async def _send_parts(self, key: str, sizes: Sequence[int]) -> _Upload:
        content = self._content(sum(sizes), "parts")
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        pieces = [
            (number, content[start : start + size])
            for number, (start, size) in enumerate(zip(starts, sizes, strict=True), start=1)
        ]
        sent: dict[int, Mapping[str, Any]] = {}
        upload_id = await self._storage.begin(self._destination, key)
        try:
            await self._storage.send(self._destination, key, upload_id, pieces, sent.__setitem__)
        except BaseException:
            await self._give_up(_Upload(key, upload_id, ()))
            raise
        return _Upload(key, upload_id, [sent[number] for number, _ in pieces])

    async def _complete(
        self, upload: _Upload, condition: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        self._keys.add(upload.key)
        return await self._storage.clients.ask(
            self._destination,
            "complete_multipart_upload",
            seconds_max=content_seconds_max(
                self._storage.clients.response_seconds_max, sum(EQUAL_PARTS)
            ),
            Key=upload.key,
            UploadId=upload.id,
            MultipartUpload={"Parts": list(upload.sent)},
            **(condition or {}),
        )

    async def _give_up(self, upload: _Upload) -> None:
        """Abort an upload that is not needed any more; a server without aborts keeps it."""
        await self._responded(self._storage.abort_upload(self._destination, upload.key, upload.id))

    async def _remove(self) -> None:
        """Remove all objects that were written, until S3 refuses to remove any."""
        keys, error = sorted(self._keys), ""
        if not keys:
            return
        batches = [
            keys[first : first + REMOVALS_AT_ONCE_MAX]
            for first in range(0, len(keys), REMOVALS_AT_ONCE_MAX)
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REMOVAL_SECONDS_MAX):
                for batch in batches * 2:  # those that failed are tried once more
                    some = [key for key in batch if key in self._keys]
                    found = await asyncio.gather(
                        *(self._responded(self._delete(key)) for key in some)
                    )
                    responses = [response for response, _ in found]
                    answered = zip(some, responses, strict=True)
                    self._keys -= {key for key, response in answered if response.is_done}
                    error = next((it.code for it in responses if not it.is_done), error)
                    if some and all(it.is_refused for it in responses):
                        break
        command = ["aws", "s3", "rm", "--recursive"]
        command.append(f"s3://{self._destination.bucket}/{self.folder}")
        endpoint_url = self._storage.clients.access(self._destination).endpoint_url
        if endpoint_url is not None:
            command += ["--endpoint-url", endpoint_url]
        left = len(self._keys)
        self.seen.removal = Removal(len(keys) - left, left, error, shlex.join(command))

    async def _delete(self, key: str) -> None:
        await self._storage.clients.ask(self._destination, "delete_object", Key=key)


def _kind(error: DeliveryError) -> Kind:
    if error.code == PRECONDITION_FAILED:
        return Kind.EXISTS
    if error.code in NOT_FOUND:
        return Kind.MISSING
    has_responded = isinstance(error.__cause__, ClientError)
    is_silent = isinstance(error, TransientError) and not has_responded
    return Kind.SILENT if is_silent else Kind.REFUSED
