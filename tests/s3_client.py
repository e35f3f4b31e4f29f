"""A botocore client of the embedded S3 server, to look at what others have written."""

import contextlib
from collections.abc import Iterator
from typing import Any

import botocore.session

from stream_app.embedded.servers import S3Program


@contextlib.contextmanager
def s3_client(server: S3Program) -> Iterator[Any]:
    names = server.environment
    client = botocore.session.Session().create_client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name=names["AWS_REGION"],
        aws_access_key_id=names["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=names["AWS_SECRET_ACCESS_KEY"],
    )
    with contextlib.closing(client):
        yield client
