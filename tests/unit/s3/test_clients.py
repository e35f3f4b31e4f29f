"""Clients of S3 before there are any: no server is needed."""

import asyncio

import pytest

from stream_app.config.settings import S3, Destination
from stream_app.errors import TransientError
from stream_app.s3.clients import Clients


def test_request_before_the_credentials_are_loaded_waits_for_them() -> None:
    async def request() -> None:
        clients = Clients(S3())
        destination = Destination(id="orders", bucket="my-bucket")
        await clients.call(destination, "head_bucket", seconds_max=0.01)

    with pytest.raises(TransientError):
        asyncio.run(request())
