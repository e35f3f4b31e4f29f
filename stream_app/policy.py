"""The least bucket policy under which a worker can deliver.

Five actions, as users of S3 destinations know them: put an object (in one request or in parts), set
its ACL, find the bucket's region, and list and abort uploads that were left unfinished. A worker
can never read, list or delete objects under it.

Beside it stands what S3's answers say about the policy: the right that is missing, the
region that a bucket is in.

Pure: text in, text out.
"""

import json
import re
from collections.abc import Collection
from typing import Final

from stream_app.errors import ConfigurationError

ACTIONS: Final = (
    "s3:AbortMultipartUpload",
    "s3:GetBucketLocation",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:ListBucketMultipartUploads",
)
RIGHTS: Final = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CreateMultipartUpload": "s3:PutObject",
    "GetBucketLocation": "s3:GetBucketLocation",
}
"""Which of the actions a request needs."""
OPTION_RIGHTS: Final = {"acl": "s3:PutObjectAcl", "tags": "s3:PutObjectTagging"}
"""Which right a destination's option needs beside. Encryption under KMS needs kms:GenerateDataKey
and, for parts, kms:Decrypt; the key's own policy grants them."""
_NAMED: Final = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")
_REGIONS_OF_OLD: Final = {"": "us-east-1", "EU": "eu-west-1"}
"""What GetBucketLocation calls the two oldest regions."""
_PRINCIPAL: Final = re.compile(
    r"arn:(?P<partition>aws[a-z0-9-]*):(?:iam|sts)::[0-9]{12}:"
    r"(?:root|(?:role|user|assumed-role|federated-user)/[!-)+-~]+)"
)
"""An account, role, user or session. No star: a policy for everybody is not the least."""


def bucket_policy(bucket: str, principal: str, options: Collection[str] = ()) -> str:
    """Return the policy document (indented JSON, no line end) for one bucket.

    `options` are those that its destinations have: some need a right beside (`OPTION_RIGHTS`).

    The resources are in the principal's AWS partition (`aws`, `aws-cn`, `aws-us-gov`).

    Raises:
        ConfigurationError: `principal` is not the ARN of somebody.
    """
    match = _PRINCIPAL.fullmatch(principal)
    if match is None:
        mistake = (
            f"--principal is '{principal}'; write the ARN of an account, role or user, for example "
            "arn:aws:iam::123456789012:role/stream-app"
        )
        raise ConfigurationError([mistake])
    rights = [right for option, right in OPTION_RIGHTS.items() if option in options]
    arn = f"arn:{match['partition']}:s3:::{bucket}"
    document = {
        "Version": "2012-10-17",
        "Id": "allow-stream-app-limited-access",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": principal},
                "Action": list(dict.fromkeys((*ACTIONS, *rights))),
                "Resource": [arn, f"{arn}/*"],
            }
        ],
    }
    return json.dumps(document, indent=2)


def missing_right(operation: str, words: str) -> str:
    """Return the right whose lack made S3 answer AccessDenied.

    AWS often names it, and then it can be one that no bucket policy grants: `kms:GenerateDataKey`
    where the bucket encrypts under a key of its own, `sts:AssumeRole` where a role is not ours.

    Args:
        operation: What was asked, one of `RIGHTS`.
        words: S3's message.
    """
    named = _NAMED.search(words)
    return RIGHTS[operation] if named is None else named[1]


def bucket_region(location: str | None) -> str:
    """Return the region that GetBucketLocation's answer means."""
    given = (location or "").strip()
    return _REGIONS_OF_OLD.get(given, given)
