"""Names of buckets: which ones S3 takes requests for, and what kind of bucket a name stands for.

Some names that nobody can create are names to write to: the alias of an access point, and the name
of a directory bucket, which has its zone in it. Both are addressed by virtual hosts only.

Pure.
"""

import re
from typing import Final
from urllib.parse import urlsplit, urlunsplit

ALIAS_SUFFIX: Final = "-s3alias"
"""Ending of an access point's alias, which S3 chooses."""
DIRECTORY_SUFFIXES: Final = ("--x-s3", "--xa-s3")
"""Endings of directory buckets, and of access points of them."""
_RESERVED_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_SUFFIXES: Final = ("--ol-s3", ".mrap", "--table-s3")
"""Endings of names that cannot be written to by PutObject, or need another kind of signature."""

_IPV4: Final = re.compile(r"[0-9]+(?:\.[0-9]+){3}")


def is_bucket_name(text: str) -> bool:
    """Return whether S3's rules allow requests for a bucket, or an alias, of this name."""
    return (
        re.fullmatch(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]", text) is not None
        and _IPV4.fullmatch(text) is None
        and not text.startswith(_RESERVED_PREFIXES)
        and not text.endswith(_RESERVED_SUFFIXES)
        and (not is_directory_bucket(text) or re.fullmatch(r".+--.+--xa?-s3", text) is not None)
    )


def is_access_point_alias(bucket: str) -> bool:
    """Return whether the name is the alias of an access point."""
    return bucket.endswith(ALIAS_SUFFIX)


def is_directory_bucket(bucket: str) -> bool:
    """Return whether the name is that of a directory bucket, or of an access point of one."""
    return bucket.endswith(DIRECTORY_SUFFIXES)


def needs_virtual_host(bucket: str) -> bool:
    """Return whether S3 takes only virtual-hosted requests for the name."""
    return is_access_point_alias(bucket) or is_directory_bucket(bucket)


def endpoint_without_bucket(endpoint_url: str, bucket: str) -> str | None:
    """Return the URL without the bucket's name in front of its host; None: it is not there."""
    parts = urlsplit(endpoint_url)
    host = parts.hostname or ""
    if not host.startswith(f"{bucket}.") or _IPV4.fullmatch(host):
        return None
    return urlunsplit(parts._replace(netloc=parts.netloc[len(bucket) + 1 :]))
