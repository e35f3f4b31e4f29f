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

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
)

from stream_app.errors import DeliveryError, PermanentError, SetupError, TransientError
from stream_app.receipts import Stored
from stream_app.retries import classified
from stream_app.settings import S3

CONNECTIONS_MAX: Final = 64
CONNECT_SECONDS_MAX: Final = 5
READ_SECONDS_MAX: Final = 30
UPLOAD_BYTES_PER_SECOND_MIN: Final = 128 * 1024
"""A request whose content goes slower than this is broken off and made again."""
KEEPALIVE_SECONDS: Final = 10
"""Shorter than S3 keeps idle sockets: a stale one costs a failed request."""
HASH_IN_LOOP_BYTES_MAX: Final = 256 * 1024
"""Larger contents are hashed in a thread: a millisecond is the most the event loop waits."""
PRECONDITION_FAILED: Final = "PreconditionFailed"
NOT_FOUND: Final = frozenset({"404", "NoSuchKey"})
"""HeadObject has no body to name its error in; a missing right is 403."""
CREDENTIALS_REFUSED: Final = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidToken",
        "NoCredentials",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


class Storage:
    """A client for S3; an async context manager.

    Args:
        settings: Region and endpoint. Credentials come from where AWS tools look for them.
    """

    def __init__(self, settings: S3) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
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
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

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
                seconds_max=READ_SECONDS_MAX + len(content) / UPLOAD_BYTES_PER_SECOND_MIN,
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

    async def require_credentials(self, bucket: str) -> None:
        """Ask S3 something harmless, to learn whether it knows who we are.

        Raises:
            SetupError: It does not. Any other trouble is left to the deliveries.
        """
        try:
            await self._call("get_bucket_location", Bucket=bucket)
        except DeliveryError as error:
            if error.code in CREDENTIALS_REFUSED:
                where = self._settings.endpoint_url or f"AWS, region {self._settings.region}"
                raise SetupError(
                    f"S3 ({where}) does not accept our credentials ({error.code}); set "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role"
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
        seconds_max: float = READ_SECONDS_MAX,
        **arguments: Any,  # noqa: ANN401 - as many as S3 has
    ) -> Mapping[str, Any]:
        try:
            # aiohttp counts its read timeout only from when the content is written, and a server
            # that accepts and then says nothing never lets it be written.
            async with asyncio.timeout(seconds_max):
                answer: Mapping[str, Any] = await getattr(self._client, operation)(**arguments)
        except ClientError as error:
            details = error.response.get("Error", {})
            raise classified(
                code=str(details.get("Code", "Unknown")),
                status=int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
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
        except (BotoCoreError, aiohttp.ClientError, TimeoutError, OSError) as error:
            # Refused, reset, hung, TLS, name resolution: botocore names each class.
            raise TransientError(type(error).__name__, str(error) or "no answer") from error
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
