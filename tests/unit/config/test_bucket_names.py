"""Names of buckets that S3 takes requests for."""

import pytest

from stream_app.config.bucket_names import (
    endpoint_without_bucket,
    is_access_point_alias,
    is_bucket_name,
    is_directory_bucket,
    needs_virtual_host,
)

ALIAS = "orders-ap-abcdefghijklmnopqrstuvwxyz0123456789a-s3alias"
DIRECTORIES = ["my-bucket--use1-az4--x-s3", "my-ap--usw2-lax1-az1--xa-s3"]


@pytest.mark.parametrize("name", [ALIAS, *DIRECTORIES, "my-bucket", "my.bucket", "abc-x-s3"])
def test_name_that_one_may_write_to_is_allowed(name: str) -> None:
    assert is_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    ["a--x-s3", "a--use1-az4-x-s3--x-s3x.mrap", "orders--ol-s3", "orders--table-s3", "--x--x-s3"],
)
def test_name_that_nobody_can_write_to_is_refused(name: str) -> None:
    assert not is_bucket_name(name)


def test_kind_of_a_bucket_is_in_its_name() -> None:
    names = ["my-bucket", ALIAS, *DIRECTORIES]
    assert [is_access_point_alias(it) for it in names] == [False, True, False, False]
    assert [is_directory_bucket(it) for it in names] == [False, False, True, True]
    assert [needs_virtual_host(it) for it in names] == [False, True, True, True]


@pytest.mark.parametrize(
    ("endpoint_url", "bucket", "other"),
    [
        ("http://my-bucket.oss.example.com", "my-bucket", "http://oss.example.com"),
        ("https://my-bucket.example.com:9000/x", "my-bucket", "https://example.com:9000/x"),
        ("https://my.bucket.example.com", "my.bucket", "https://example.com"),
        ("https://My-Bucket.example.com", "my-bucket", "https://example.com"),
        ("http://my-bucket:9000", "my-bucket", None),
        ("http://my-bucket-2.example.com", "my-bucket", None),
        ("http://oss.example.com", "my-bucket", None),
        ("http://127.0.0.1:9000", "127", None),
        ("http://[::1]:9000", "my-bucket", None),
    ],
)
def test_bucket_is_found_in_front_of_an_endpoints_host(
    endpoint_url: str, bucket: str, other: str | None
) -> None:
    assert endpoint_without_bucket(endpoint_url, bucket) == other
