"""Putting objects into S3: never over another one, never without a checksum.

`If-None-Match: *` makes S3 refuse with 412 where the key exists. The key is a pure function of a
recorded closing, so whoever is refused has found the very object that it wanted to write. The
checksum matters as much: without one, a connection that dies between the headers and the body may
leave an empty object, which the 412 would then hide.

botocore's own retries are off: `delivery` retries, knows how long, and says so in the receipt.
"""

import asyncio
import base64
import hashlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final, Self
from xml.etree.ElementTree import ParseError

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError

from stream_app.errors import DeliveryError, PermanentError, SetupError, TransientError
from stream_app.receipts import Stored
from stream_app.retries import classified
from stream_app.settings import S3

CONNECTIONS_MAX: Final = 64
CONNECT_SECONDS_MAX: Final = 5
READ_SECONDS_MAX: Final = 30
START_SECONDS_MAX: Final = 30
"""Credentials may come from another program or server, which has to answer as well."""
UPLOAD_BYTES_PER_SECOND_MIN: Final = 128 * 1024
"""A request whose content goes slower than this is broken off and made again."""
KEEPALIVE_SECONDS: Final = 10
"""Shorter than S3 keeps idle sockets: a stale one costs a failed request."""
HASH_IN_LOOP_BYTES_MAX: Final = 256 * 1024
"""Larger contents are hashed in a thread: a millisecond is the most the event loop waits."""
PRECONDITION_FAILED: Final = "PreconditionFailed"
NOT_FOUND: Final = frozenset({"404", "NoSuchKey"})
"""HeadObject has no body to name its error in; a missing right is 403."""
NO_SUCH_UPLOAD: Final = "NoSuchUpload"
UNREADABLE: Final = "UnreadableAnswer"
"""Our own code: something answered, and not as S3 does."""
CREDENTIALS_REFUSED: Final = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidToken",
        "NoCredentials",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
CREDENTIALS_ADVICE: Final = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role"
)


def place(settings: S3) -> str:
    """Return where S3 is, for people."""
    return settings.endpoint_url or f"AWS, region {settings.region}"


class Storage:
    """A client for S3; an async context manager.

    Args:
        settings: Region and endpoint. Credentials come from where AWS tools look for them.
        answer_seconds_max: How long S3 may take to answer a request without content.

    Raises:
        SetupError: When entered: what the AWS tools' settings say cannot be used.
    """

    def __init__(self, settings: S3, *, answer_seconds_max: float = READ_SECONDS_MAX) -> None:
        self._settings = settings
        self._answer_seconds_max = answer_seconds_max
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._open()
        except (BotoCoreError, OSError, ValueError) as error:
            # A profile that is not there, half a key, a program for credentials that fails.
            words = " ".join(str(error).split()) or f"nothing within {START_SECONDS_MAX} s"
            raise SetupError(
                f"S3 ({place(self._settings)}) cannot be asked: {type(error).__name__}: {words}; "
                f"{CREDENTIALS_ADVICE}"
            ) from error
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        own_endpoint = self._settings.endpoint_url is not None
        self._client = await self._stack.enter_async_context(
            get_session().create_client(
                "s3",
                region_name=self._settings.region,
                endpoint_url=self._settings.endpoint_url,
                config=AioConfig(
                    connect_timeout=CONNECT_SECONDS_MAX,
                    read_timeout=READ_SECONDS_MAX,
                    max_pool_connections=CONNECTIONS_MAX,
                    retries={"mode": "standard", "total_max_attempts": 1},
                    # We send SHA-256 ourselves; botocore's own CRC breaks some servers.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    # A server of one's own rarely has a name for each bucket.
                    s3={"addressing_style": "path"} if own_endpoint else None,
                    connector_args={"keepalive_timeout": KEEPALIVE_SECONDS},
                ),
            )
        )

    async def put(self, bucket: str, key: str, content: bytes, *, lines: int, size: int) -> Stored:
        """Write an object unless its key exists; return what stands there then.

        Args:
            bucket: Where.
            key: The whole key.
            content: The gzip member.
            lines: How many lines it holds; with `size`, its uncompressed bytes, this goes into
                the object's metadata and tells whether an object found there is the same one.
            size: See above.

        Raises:
            TransientError: Nothing is known to stand there; try again.
            PermanentError: S3 refuses, or another object stands under the key.
        """
        checksum = await _sha256(content)
        metadata = {"lines": str(lines), "uncompressed-size": str(size)}
        try:
            answer = await self._call(
                "put_object",
                Bucket=bucket,
                Key=key,
                seconds_max=self._answer_seconds_max + len(content) / UPLOAD_BYTES_PER_SECOND_MIN,
                Body=content,
                IfNoneMatch="*",
                ChecksumSHA256=checksum,
                ContentType="application/gzip",
                Metadata=metadata,
            )
        except DeliveryError as error:
            if error.code != PRECONDITION_FAILED:
                raise
            found = await self._found(bucket, key, content, checksum, metadata)
            return Stored(
                size=len(content),
                etag=_etag(found),
                version_id=found.get("VersionId"),
                checksum=checksum,
                already_existed=True,
            )
        return Stored(
            size=len(content),
            etag=_etag(answer),
            version_id=answer.get("VersionId"),
            checksum=checksum,
            already_existed=False,
        )

    async def location(self, bucket: str) -> str | None:
        """Return the bucket's region as GetBucketLocation has it (see `policy.other_region`).

        Raises:
            DeliveryError: S3 refuses, or does not answer.
        """
        answer = await self._call("get_bucket_location", Bucket=bucket)
        location: str | None = answer.get("LocationConstraint")
        return location

    async def create_upload(self, bucket: str, key: str) -> str:
        """Begin a multipart upload, of which nothing can be seen; return its id.

        Raises:
            DeliveryError: S3 refuses, or does not answer; if transient, it may have begun one.
        """
        answer = await self._call(
            "create_multipart_upload", Bucket=bucket, Key=key, ContentType="application/gzip"
        )
        if "UploadId" not in answer:
            raise TransientError(UNREADABLE, "there is no upload id in the answer")
        return str(answer["UploadId"])

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """End an upload without an object; one that is not there (any more) is ended already.

        Raises:
            DeliveryError: S3 refuses, or does not answer: the upload stays.
        """
        try:
            await self._call("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload_id)
        except DeliveryError as error:
            if error.code != NO_SUCH_UPLOAD:
                raise

    async def require_credentials(self, bucket: str) -> None:
        """Ask S3 something harmless, to learn whether it knows who we are.

        Raises:
            SetupError: It does not. Any other trouble is left to the deliveries.
        """
        try:
            await self.location(bucket)
        except DeliveryError as error:
            if error.code in CREDENTIALS_REFUSED:
                raise SetupError(
                    f"S3 ({place(self._settings)}) does not accept our credentials "
                    f"({error.code}); {CREDENTIALS_ADVICE}"
                ) from error

    async def _found(
        self, bucket: str, key: str, content: bytes, checksum: str, metadata: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Look at an object that a predecessor wrote; empty where we may not look."""
        try:
            head = await self._call("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        except PermanentError as error:
            if error.code in NOT_FOUND:
                raise TransientError(
                    "ObjectVanished", f"{bucket}/{key} existed and is gone; writing it again"
                ) from error
            # The documented policy does not allow a look. The key says that it is the same one.
            return {}
        same_bytes = (
            head.get("ContentLength") == len(content)
            and head.get("ChecksumSHA256", checksum) == checksum
        )
        # Another build of the compressor gives other bytes for the same lines.
        same_lines = bool(head.get("ContentLength")) and head.get("Metadata") == metadata
        if not same_bytes and not same_lines:
            raise PermanentError(
                "ObjectDiffers",
                f"{bucket}/{key} exists with {head.get('ContentLength')} bytes and metadata "
                f"{head.get('Metadata')}, which are not this window's; look at it and remove it",
            )
        return head

    async def _call(
        self,
        operation: str,
        seconds_max: float | None = None,
        **arguments: Any,  # noqa: ANN401 - as many as S3 has
    ) -> Mapping[str, Any]:
        seconds_max = seconds_max or self._answer_seconds_max
        try:
            # aiohttp counts its read timeout only from when the content is written, and a server
            # that accepts and then says nothing never lets it be written.
            async with asyncio.timeout(seconds_max):
                answer: Mapping[str, Any] = await getattr(self._client, operation)(**arguments)
        except ClientError as error:
            details = error.response.get("Error", {})
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise classified(
                # A proxy's page names no code.
                code=str(details.get("Code") or status),
                status=status,
                message=str(details.get("Message", error)),
            ) from error
        except NoCredentialsError as error:
            raise TransientError("NoCredentials", str(error)) from error
        except ParamValidationError as error:
            raise PermanentError("InvalidRequest", str(error)) from error
        except RecursionError as error:
            # botocore follows a redirect that names no region by asking again, without an end.
            raise PermanentError(
                "PermanentRedirect", "the bucket is in another region; set [s3] region"
            ) from error
        except (ParseError, ResponseParserError) as error:
            # What was found there may be long, and begins on the second line.
            raise TransientError(UNREADABLE, str(error).partition("\n")[0]) from error
        except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as error:
            # Refused, reset, hung, TLS, name resolution: botocore names each class.
            raise TransientError(
                type(error).__name__, str(error) or f"no answer within {seconds_max:.3g} s"
            ) from error
        return answer


async def _sha256(content: bytes) -> str:
    if len(content) > HASH_IN_LOOP_BYTES_MAX:
        digest = await asyncio.to_thread(lambda: hashlib.sha256(content).digest())
    else:
        digest = hashlib.sha256(content).digest()
    return base64.b64encode(digest).decode()


def _etag(answer: Mapping[str, Any]) -> str | None:
    etag = answer.get("ETag")
    return None if etag is None else str(etag).strip('"')
