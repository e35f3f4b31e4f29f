"""Putting objects into S3: never over another one, never without a checksum.

`If-None-Match: *` makes S3 refuse with 412 where the key exists. The key is a pure function of a
recorded closing, so whoever is refused has found the very object that it wanted to write. The
checksum matters as much: without one, a connection that dies between the headers and the body may
leave an empty object, which the 412 would then hide.

Large contents go in parts (`multipart`); how a destination's S3 is reached is `clients`' matter.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from stream_app.clients import CREDENTIALS_ADVICE, READ_SECONDS_MAX, Clients
from stream_app.contents import ALGORITHMS, MULTIPART_BYTES, SHA256, body, checksum
from stream_app.errors import (
    DeliveryError,
    PermanentError,
    SetupError,
    StreamAppError,
    TransientError,
    UploadGoneError,
)
from stream_app.multipart import (
    UPLOAD_GONE,
    Multipart,
    abort_upload,
    content_seconds_max,
    create_upload,
    required,
)
from stream_app.receipts import Stored
from stream_app.settings import S3, Destination
from stream_app.trouble import CREDENTIALS_REFUSED, NOT_FOUND, PRECONDITION_FAILED
from stream_app.values import encoded_tags

IN_PARTS: Final = {"written": "in-parts"}
"""Metadata of an object whose first parts leave before its last line is known."""


class Storage:
    """S3, with all buckets that destinations have; an async context manager.

    Args:
        settings: What holds where a destination says nothing. Credentials come from where AWS
            tools look for them.
        answer_seconds_max: How long S3 may take to answer a request without content.

    Raises:
        SetupError: When entered: what the AWS tools' settings say cannot be used.
    """

    def __init__(self, settings: S3, *, answer_seconds_max: float = READ_SECONDS_MAX) -> None:
        self.clients = Clients(settings, answer_seconds_max=answer_seconds_max)
        self._multipart = Multipart(self.clients)

    async def __aenter__(self) -> Self:
        await self.clients.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        try:
            await self._multipart.aclose()
        finally:
            await self.clients.__aexit__(*exception)

    async def put(
        self,
        destination: Destination,
        key: str,
        content: bytes,
        *,
        lines: int,
        size: int,
        sha256: str | None = None,
    ) -> Stored:
        """Write an object unless its key exists; return what stands there then.

        Args:
            destination: Where, and with which options.
            key: The whole key.
            content: The gzip member.
            lines: How many lines it holds; with `size`, its uncompressed bytes, this goes into
                the object's metadata and tells whether an object found there is the same one.
            size: See above.
            sha256: The content's, in base64; left out, it is computed.

        Raises:
            TransientError: Nothing is known to stand there; try again.
            PermanentError: S3 refuses, or another object stands under the key.
        """
        metadata = _told(lines, size)
        if sha256 is None:
            sha256 = await checksum(SHA256, content)
        algorithm = ALGORITHMS[destination.checksum]
        sent = sha256 if algorithm is SHA256 else await checksum(algorithm, content)
        wanted = _Wanted(destination.bucket, key, len(content), algorithm.argument, sent, metadata)
        if not destination.conditional_writes:
            # The next best: look before. Two workers that look at the same time both write.
            found = await self._look_before(destination, key)
            if found is not None:
                wanted.require_in(found)
                return _stored(found, len(content), sha256, already_existed=True)
        try:
            answer = await self._write(destination, content, wanted)
        except DeliveryError as error:
            if error.code != PRECONDITION_FAILED:
                raise
            found = await self._look_after(destination, key)
            if found:
                wanted.require_in(found)
            return _stored(found, len(content), sha256, already_existed=True)
        return _stored(answer, len(content), sha256, already_existed=False)

    async def begin(self, destination: Destination, key: str) -> str:
        """Begin an object that comes in parts, of which nothing can be seen; return S3's name.

        Raises:
            DeliveryError: S3 refuses, or does not answer; if transient, it may have begun one.
        """
        options = {**_options(destination), "Metadata": IN_PARTS}
        return await self._multipart.begin(destination, key, options=options)

    async def send(
        self,
        destination: Destination,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[int, bytes]],
        on_sent: Callable[[int, Any], None],
    ) -> None:
        """Send numbered parts; `on_sent` is told of each that S3 has, and what to keep of it.

        Raises:
            UploadGoneError: There is no such upload (any more).
            DeliveryError: S3 refuses, or does not answer; try again with the parts that are left.
        """
        try:
            await self._multipart.send(destination, key, upload_id, parts, on_sent)
        except DeliveryError as error:
            raise _gone(error, destination, key) from error

    async def complete(
        self,
        destination: Destination,
        key: str,
        upload_id: str,
        sent: Sequence[Any],
        *,
        lines: int,
        size: int,
        size_compressed: int,
        sha256: str,
    ) -> Stored:
        """Make an object visible that came in parts, unless its key exists; see `put`.

        Args:
            destination: Where.
            key: The whole key.
            upload_id: As `begin` returned it.
            sent: What was told of each part, in the order of their numbers.
            lines: As of `put`.
            size: As of `put`.
            size_compressed: Bytes of the object.
            sha256: Its digest, in base64.

        Raises:
            UploadGoneError: There is no such upload (any more): if an answer was lost, the object
                is there, else it has to be sent again.
            TransientError: Try again.
            PermanentError: S3 refuses, or another object stands under the key.
        """
        condition = {"IfNoneMatch": "*"} if destination.conditional_writes else {}
        found = None
        if not destination.conditional_writes:
            found = await self._look_before(destination, key)
        if found is None:
            try:
                answer = await self._multipart.complete(
                    destination, key, upload_id, sent, condition=condition
                )
            except DeliveryError as error:
                if error.code != PRECONDITION_FAILED:
                    raise _gone(error, destination, key) from error
                found = await self._look_after(destination, key)
            else:
                return _stored(answer, size_compressed, sha256, already_existed=False)
        if found:
            # What S3 tells of an object in parts is a checksum of checksums, by which it cannot
            # be known; its metadata can.
            wanted = _Wanted(destination.bucket, key, size_compressed, "", "", _told(lines, size))
            wanted.require_in(found)
        self.abandon(destination, key, upload_id)
        return _stored(found, size_compressed, sha256, already_existed=True)

    def abandon(self, destination: Destination, key: str, upload_id: str) -> None:
        """Have an object in parts aborted that nobody goes on with; a failure is logged."""
        self._multipart.abandon(destination, key, upload_id)

    async def location(self, destination: Destination) -> str | None:
        """Return the bucket's region as GetBucketLocation has it (see `policy.bucket_region`).

        Raises:
            DeliveryError: S3 refuses, or does not answer.
        """
        answer = await self.clients.call(destination, "get_bucket_location")
        location: str | None = answer.get("LocationConstraint")
        return location

    async def create_upload(self, destination: Destination, key: str) -> str:
        """Begin a multipart upload with all of the destination's options; return its id.

        Raises:
            DeliveryError: S3 refuses, or does not answer; if transient, it may have begun one.
        """
        return await create_upload(self.clients, destination, key, **_options(destination))

    async def abort_upload(self, destination: Destination, key: str, upload_id: str) -> None:
        """End an upload without an object; one that is not there (any more) is ended already.

        Raises:
            DeliveryError: S3 refuses, or does not answer: the upload stays.
        """
        await abort_upload(self.clients, destination, key, upload_id)

    async def require_credentials(self, destination: Destination) -> None:
        """Ask S3 something harmless, to learn whether it knows who we are.

        Raises:
            SetupError: It does not. Any other trouble is left to the deliveries.
        """
        try:
            await self.location(destination)
        except DeliveryError as error:
            if error.code in CREDENTIALS_REFUSED:
                place = self.clients.access(destination).place
                raise SetupError(
                    f"S3 ({place}) does not accept our credentials ({error.code}); "
                    f"{CREDENTIALS_ADVICE}"
                ) from error

    async def _write(
        self, destination: Destination, content: bytes, wanted: "_Wanted"
    ) -> Mapping[str, Any]:
        """Put the object, whole or in parts; return S3's answer."""
        options = {**_options(destination), "Metadata": wanted.metadata}
        condition = {"IfNoneMatch": "*"} if destination.conditional_writes else {}
        if len(content) > MULTIPART_BYTES:
            return await self._multipart.put(
                destination, wanted.key, content, options=options, condition=condition
            )
        answer = await self.clients.call(
            destination,
            "put_object",
            seconds_max=content_seconds_max(self.clients.answer_seconds_max, len(content)),
            Key=wanted.key,
            Body=body(content),
            **condition,
            **{wanted.checksum_name: wanted.checksum},
            **options,
        )
        required(answer, "ETag")
        return answer

    async def _look_before(self, destination: Destination, key: str) -> Mapping[str, Any] | None:
        """Return what stands under the key; None if nothing does, or we may not look."""
        try:
            return await self._head(destination, key)
        except PermanentError:
            return None

    async def _look_after(self, destination: Destination, key: str) -> Mapping[str, Any]:
        """Look at an object that a predecessor wrote; empty where we may not look."""
        try:
            return await self._head(destination, key)
        except PermanentError as error:
            if error.code in NOT_FOUND:
                raise TransientError(
                    "ObjectVanished",
                    f"{destination.bucket}/{key} existed and is gone; writing it again",
                ) from error
            # The documented policy does not allow a look. The key says that it is the same one.
            return {}

    async def _head(self, destination: Destination, key: str) -> Mapping[str, Any]:
        return await self.clients.call(destination, "head_object", Key=key, ChecksumMode="ENABLED")


class _Wanted(NamedTuple):
    """The object that is to stand there."""

    bucket: str
    key: str
    size: int
    checksum_name: str
    checksum: str
    metadata: Mapping[str, str]

    def require_in(self, found: Mapping[str, Any]) -> None:
        """Compare it with what HeadObject tells of the object that is there.

        Raises:
            PermanentError: It is another one.
        """
        # Of an object that came in parts S3 has another checksum, and not every server tells one:
        # then the metadata decides.
        same_bytes = (
            found.get("ContentLength") == self.size
            and found.get(self.checksum_name) == self.checksum
        )
        # Another build of the compressor gives other bytes for the same lines.
        # What came in parts could not be told of its lines; S3 has made it of what was sent whole.
        same_lines = bool(found.get("ContentLength")) and (
            found.get("Metadata") in (self.metadata, IN_PARTS)
        )
        if not same_bytes and not same_lines:
            raise PermanentError(
                "ObjectDiffers",
                f"{self.bucket}/{self.key} exists with {found.get('ContentLength')} bytes and "
                f"metadata {found.get('Metadata')}, which are not this window's; look at it and "
                "remove it",
            )


def _options(destination: Destination) -> dict[str, Any]:
    """Return what an object is to be like, as PutObject and CreateMultipartUpload take it."""
    options = {
        "ACL": destination.acl,
        "ContentEncoding": destination.content_encoding,
        "ContentType": destination.content_type,
        "SSEKMSKeyId": destination.kms_key_id,
        "ServerSideEncryption": destination.sse,
        "StorageClass": destination.storage_class,
        "Tagging": encoded_tags(destination.tags or ()) or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _told(lines: int, size: int) -> dict[str, str]:
    return {"lines": str(lines), "uncompressed-size": str(size)}


def _gone(error: DeliveryError, destination: Destination, key: str) -> StreamAppError:
    """Return the error itself, or what it says of the whole upload."""
    if error.code in UPLOAD_GONE:
        return UploadGoneError(f"the parts of {destination.bucket}/{key} are gone: {error.message}")
    return error


def _stored(answer: Mapping[str, Any], size: int, sha256: str, *, already_existed: bool) -> Stored:
    etag = answer.get("ETag")
    return Stored(
        size=size,
        etag=None if etag is None else str(etag).strip('"'),
        version_id=answer.get("VersionId"),
        checksum=sha256,
        already_existed=already_existed,
    )
