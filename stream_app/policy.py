"""The least bucket policy under which a worker can deliver.

Five actions, as users of S3 destinations know them: put an object (in one request or in parts), set
its ACL, find the bucket's region, and list and abort uploads that were left unfinished. A worker
can never read, list or delete objects under it.

Pure: text in, a JSON document out.
"""

import json
import re
from typing import Final

from stream_app.errors import ConfigurationError

ACTIONS: Final = (
    "s3:AbortMultipartUpload",
    "s3:GetBucketLocation",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:ListBucketMultipartUploads",
)
_PRINCIPAL: Final = re.compile(
    r"arn:(?P<partition>aws[a-z0-9-]*):(?:iam|sts)::[0-9]{12}:"
    r"(?:root|(?:role|user|assumed-role|federated-user)/[!-)+-~]+)"
)
"""An account, role, user or session. No star: a policy for everybody is not the least."""


def bucket_policy(bucket: str, principal: str) -> str:
    """Return the policy document (indented JSON, no line end) for one bucket.

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
    arn = f"arn:{match['partition']}:s3:::{bucket}"
    document = {
        "Version": "2012-10-17",
        "Id": "allow-stream-app-limited-access",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": principal},
                "Action": list(ACTIONS),
                "Resource": [arn, f"{arn}/*"],
            }
        ],
    }
    return json.dumps(document, indent=2)
