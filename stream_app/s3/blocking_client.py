"""Blocking S3 client with keys of its own, for a local S3 server: buckets, a probe, reading."""

import contextlib
from typing import Final

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from stream_app.errors import SetupError

PROBE_KEY: Final = "probe"
_FAILURES: Final = (BotoCoreError, ClientError)


class BlockingClient:
    """S3 client that blocks its thread until the server has responded; each request is sent once.

    Args:
        endpoint_url: URL of the server.
        region: Region in the signatures of requests.
        access_key: Access key id.
        secret_key: Secret access key.
        seconds_max: Bound for connecting, and for each wait for a response.
    """

    def __init__(
        self,
        endpoint_url: str,
        *,
        region: str,
        access_key: str,
        secret_key: str,
        seconds_max: float,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._client = botocore.session.Session().create_client(
            "s3",
            region_name=region,
            endpoint_url=endpoint_url,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(
                connect_timeout=seconds_max,
                read_timeout=seconds_max,
                retries={"total_max_attempts": 1},
            ),
        )

    def create_bucket(self, name: str) -> None:
        """Create a bucket.

        Raises:
            SetupError: The server refuses, or does not respond.
        """
        try:
            self._client.create_bucket(Bucket=name)
        except _FAILURES as error:
            raise SetupError(
                f"s3 at {self._endpoint_url}: cannot create {name!r}: {error}"
            ) from error

    def read(self, bucket: str, key: str) -> bytes:
        """Return the content of an object.

        Raises:
            SetupError: The server refuses, or does not respond.
        """
        try:
            with self._client.get_object(Bucket=bucket, Key=key)["Body"] as body:
                content: bytes = body.read()
        except _FAILURES as error:
            raise SetupError(
                f"s3 at {self._endpoint_url}: cannot read {bucket}/{key}: {error}"
            ) from error
        return content

    def can_write(self, bucket: str) -> bool:
        """Return whether a bucket can be created, written to and removed now.

        Args:
            bucket: Name that nothing else uses.
        """
        client = self._client
        try:
            # An earlier probe that got no further has left the bucket.
            with contextlib.suppress(
                client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
            ):
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key=PROBE_KEY, Body=b"probe")
            client.delete_object(Bucket=bucket, Key=PROBE_KEY)
            client.delete_bucket(Bucket=bucket)
        except _FAILURES:
            return False
        return True

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        self._client.close()
