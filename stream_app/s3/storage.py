"""Objects in S3, written without overwriting another one, and with a checksum.

`If-None-Match: *` makes S3 return 412 where the key exists. The key is a pure function of a
recorded closing, so a 412 means that an earlier attempt has written this very object. The checksum
matters as much: without one, a connection that dies between the headers and the body may leave an
empty object, which the 412 would then hide.

`multipart` uploads large contents in parts; `clients` chooses region, endpoint and role.
"""

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from stream_app.config.bucket_names import is_directory_bucket
from stream_app.config.settings import S3, Destination
from stream_app.config.validators import encoded_tags
from stream_app.core.object_format import content_type_of
from stream_app.core.receipt import Stored
from stream_app.errors import (
    DeliveryError,
    PermanentError,
    SetupError,
    StreamAppError,
    TransientError,
    UploadGoneError,
)
from stream_app.s3.body import ALGORITHMS, MULTIPART_BYTES, SHA256, checksum, request_body
from stream_app.s3.clients import CREDENTIALS_ADVICE, PUT_OBJECT, READ_SECONDS_MAX, Clients
from stream_app.s3.encryption import EncryptionMonitor
from stream_app.s3.errors import (
    CREDENTIALS_REFUSED,
    NOT_FOUND,
    OBJECT_VANISHED,
    PRECONDITION_FAILED,
)
from stream_app.s3.existing_object import IN_PARTS, ExpectedObject, etag_of
from stream_app.s3.multipart import (
    UPLOAD_GONE,
    Multipart,
    abort_upload,
    content_seconds_max,
    create_upload,
    require_field,
    send_part,
)


class Storage:
    """S3 storage of all destinations; an async context manager.

    Args:
        settings: Defaults for destinations. Credentials come from where AWS tools look for them.
        response_seconds_max: Timeout of a request without content.

    Raises:
        SetupError: When entered: the settings of the AWS tools cannot be used.
    """

    def __init__(self, settings: S3, *, response_seconds_max: float = READ_SECONDS_MAX) -> None:
        self.clients = Clients(settings, response_seconds_max=response_seconds_max)
        self.encryption = EncryptionMonitor()
        self._multipart = Multipart(self.clients, self.encryption)

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
        """Write an object unless its key exists; return the object that is under the key then.

        Args:
            destination: The destination, with its options.
            key: The whole key.
            content: Of the object.
            lines: Number of lines. With `size` it is the object's metadata, by which an existing
                object is recognized as the same one.
            size: Uncompressed bytes.
            sha256: The digest of the content, in base64; by default it is computed.

        Raises:
            TransientError: It is unknown whether there is an object; try again.
            PermanentError: S3 refuses, or another object is under the key.
        """
        metadata = _metadata(lines, size)
        if sha256 is None:
            sha256 = await checksum(SHA256, content)
        algorithm = ALGORITHMS[destination.checksum]
        digest = sha256 if algorithm is SHA256 else await checksum(algorithm, content)
        expected = ExpectedObject(
            destination.bucket, key, len(content), sha256, algorithm.argument, digest, metadata
        )
        if not destination.conditional_writes:
            # Second best: check first. Two workers that check at the same time both write.
            found = await self._head_before(destination, key)
            if found is not None:
                return await _existing(expected, found, content)
        try:
            response = await self._write(destination, content, expected)
        except DeliveryError as error:
            if error.code != PRECONDITION_FAILED:
                raise
            return await _existing(expected, await self._head_existing(destination, key), content)
        return _stored(response, len(content), sha256)

    async def begin(self, destination: Destination, key: str) -> str:
        """Create the multipart upload of an object; return its id.

        Raises:
            DeliveryError: S3 refuses, or does not respond; if transient, an upload may exist.
        """
        options = {**object_options(destination), "Metadata": IN_PARTS}
        return await self._multipart.begin(destination, key, options=options)

    async def send(
        self,
        destination: Destination,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[int, bytes]],
        on_sent: Callable[[int, Any], None],
    ) -> None:
        """Upload numbered parts; `on_sent` is called for each one with its number and its entry.

        Raises:
            UploadGoneError: The upload does not exist (any more).
            DeliveryError: S3 refuses, or does not respond; try again with the other parts.
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
        """Make an object visible that was uploaded in parts, unless its key exists; see `put`.

        Args:
            destination: The destination.
            key: The whole key.
            upload_id: As `begin` returned it.
            sent: The entry of each part, as of `send`, in the order of their numbers.
            lines: As of `put`.
            size: As of `put`.
            size_compressed: Bytes of the object.
            sha256: Its digest, in base64.

        Raises:
            UploadGoneError: The upload does not exist (any more): if a response was lost, there is
                an object, else all parts must be sent again.
            TransientError: Try again.
            PermanentError: S3 refuses, or another object is under the key.
        """
        condition = {"IfNoneMatch": "*"} if destination.conditional_writes else {}
        found = None
        if not destination.conditional_writes:
            found = await self._head_before(destination, key)
        if found is None:
            try:
                response = await self._multipart.complete(
                    destination, key, upload_id, sent, condition=condition
                )
            except DeliveryError as error:
                if error.code != PRECONDITION_FAILED:
                    raise _gone(error, destination, key) from error
                found = await self._head_existing(destination, key)
            else:
                return _stored(response, size_compressed, sha256)
        metadata = _metadata(lines, size)
        expected = ExpectedObject(
            destination.bucket, key, size_compressed, sha256, "", "", metadata
        )
        if found:
            expected.require_same(found)
            # Some servers remove the object of the key with the upload: is it still there?
            await self._multipart.abort(destination, key, upload_id)
            try:
                found = await self._head_existing(destination, key)
            except DeliveryError as error:
                raise _gone(error, destination, key) from error
        else:
            self.abandon(destination, key, upload_id)
        return expected.describe(found, int(time.time()))

    def abandon(self, destination: Destination, key: str, upload_id: str) -> None:
        """Abort an upload in the background; a failure is logged."""
        self._multipart.abandon(destination, key, upload_id)

    async def location(self, destination: Destination) -> str | None:
        """Return the bucket's `LocationConstraint` (see `bucket_policy.bucket_region`).

        A directory bucket has its region in its address; HeadBucket tries it.

        Raises:
            DeliveryError: S3 refuses, or does not respond.
        """
        # The caller reports a refusal of the credentials.
        if is_directory_bucket(destination.bucket):
            await self.clients.ask(destination, "head_bucket")
            return None
        response = await self.clients.ask(destination, "get_bucket_location")
        location: str | None = response.get("LocationConstraint")
        return location

    async def create_upload(self, destination: Destination, key: str) -> str:
        """Create a multipart upload with all options of the destination; return its id.

        Raises:
            DeliveryError: S3 refuses, or does not respond; if transient, an upload may exist.
        """
        return await create_upload(self.clients, destination, key, **object_options(destination))

    async def send_part(
        self, destination: Destination, key: str, upload_id: str, content: bytes
    ) -> Mapping[str, Any]:
        """Upload the first part of an upload; return S3's response.

        Raises:
            DeliveryError: S3 refuses, or does not respond.
        """
        return await send_part(self.clients, destination, key, upload_id, (1, content))

    async def abort_upload(self, destination: Destination, key: str, upload_id: str) -> None:
        """Abort an upload; one that does not exist is aborted already.

        Raises:
            DeliveryError: S3 refuses, or does not respond: the upload stays.
        """
        await abort_upload(self.clients, destination, key, upload_id)

    async def require_credentials(self, destination: Destination) -> None:
        """Check by a harmless request whether S3 accepts our credentials.

        Raises:
            SetupError: S3 rejects them. Any other error is left to the deliveries.
        """
        try:
            await self.location(destination)
        except DeliveryError as error:
            if error.code in CREDENTIALS_REFUSED:
                endpoint = self.clients.access(destination).endpoint
                raise SetupError(
                    f"S3 ({endpoint}) does not accept our credentials ({error.code}); "
                    f"{CREDENTIALS_ADVICE}"
                ) from error

    async def _write(
        self, destination: Destination, content: bytes, expected: ExpectedObject
    ) -> Mapping[str, Any]:
        """Put the object, whole or in parts; return S3's response."""
        options = {**object_options(destination), "Metadata": expected.metadata}
        condition = {"IfNoneMatch": "*"} if destination.conditional_writes else {}
        if len(content) > MULTIPART_BYTES:
            return await self._multipart.put(
                destination, expected.key, content, options=options, condition=condition
            )
        response = await self.clients.call(
            destination,
            PUT_OBJECT,
            seconds_max=content_seconds_max(self.clients.response_seconds_max, len(content)),
            Key=expected.key,
            Body=request_body(content),
            **condition,
            **{expected.checksum_name: expected.checksum},
            **options,
        )
        require_field(response, "ETag")
        self.encryption.observe(destination, response)
        return response

    async def _head_before(self, destination: Destination, key: str) -> Mapping[str, Any] | None:
        """Return the head of an object; None if there is none, or without the right to read it."""
        try:
            return await self._head(destination, key)
        except PermanentError:
            return None

    async def _head_existing(self, destination: Destination, key: str) -> Mapping[str, Any]:
        """Return the head of an object that exists; empty without the right to read it."""
        try:
            return await self._head(destination, key)
        except PermanentError as error:
            if error.code in NOT_FOUND:
                raise TransientError(
                    OBJECT_VANISHED,
                    f"{destination.bucket}/{key} existed and is gone; writing it again",
                ) from error
            # The documented policy has no right to read. By its key it is the same object.
            return {}

    async def _head(self, destination: Destination, key: str) -> Mapping[str, Any]:
        return await self.clients.call(destination, "head_object", Key=key, ChecksumMode="ENABLED")


def object_options(destination: Destination) -> dict[str, Any]:
    """Return the options of an object, as PutObject and CreateMultipartUpload take them."""
    options = {
        "ACL": destination.acl,
        "ContentEncoding": destination.content_encoding,
        "ContentType": content_type_of(destination),
        "SSEKMSKeyId": destination.kms_key_id,
        "ServerSideEncryption": destination.sse,
        "StorageClass": destination.storage_class,
        "Tagging": encoded_tags(destination.tags or ()) or None,
    }
    return {name: value for name, value in options.items() if value is not None}


async def _existing(expected: ExpectedObject, found: Mapping[str, Any], content: bytes) -> Stored:
    """Return the description of an existing object, unless it is another one."""
    if len(content) <= MULTIPART_BYTES:  # One in parts has an ETag of another kind.
        digest = await checksum(ALGORITHMS["md5"], content)
        expected = expected._replace(md5=base64.b64decode(digest).hex())
    if found:
        expected.require_same(found)
    return expected.describe(found, int(time.time()))


def _metadata(lines: int, size: int) -> dict[str, str]:
    return {"lines": str(lines), "uncompressed-size": str(size)}


def _gone(error: DeliveryError, destination: Destination, key: str) -> StreamAppError:
    """Return the error, or an `UploadGoneError` if it means that all parts are lost."""
    if error.code in UPLOAD_GONE:
        message = f"the parts of {destination.bucket}/{key} are gone: {error.message}"
        return UploadGoneError(error.code, message)
    return error


def _stored(response: Mapping[str, Any], size: int, sha256: str) -> Stored:
    return Stored(
        *(size, etag_of(response), response.get("VersionId"), sha256),
        already_existed=False,
        stored_at=int(time.time()),
    )
