import json

import pytest

from stream_app.errors import ConfigurationError
from stream_app.policy import bucket_policy

ROLE = "arn:aws:iam::123456789012:role/stream-app"


def test_policy_allows_five_actions_on_the_bucket_and_its_objects() -> None:
    assert json.loads(bucket_policy("my-bucket", ROLE)) == {
        "Version": "2012-10-17",
        "Id": "allow-stream-app-limited-access",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": ROLE},
                "Action": [
                    "s3:AbortMultipartUpload",
                    "s3:GetBucketLocation",
                    "s3:PutObject",
                    "s3:PutObjectAcl",
                    "s3:ListBucketMultipartUploads",
                ],
                "Resource": ["arn:aws:s3:::my-bucket", "arn:aws:s3:::my-bucket/*"],
            }
        ],
    }


@pytest.mark.parametrize("partition", ["aws-cn", "aws-us-gov"])
def test_resources_are_in_the_principals_partition(partition: str) -> None:
    document = json.loads(bucket_policy("b", f"arn:{partition}:iam::123456789012:root"))
    assert document["Statement"][0]["Resource"][0] == f"arn:{partition}:s3:::b"


@pytest.mark.parametrize(
    "principal",
    [
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:user/path/me@example.com",
        "arn:aws:sts::123456789012:assumed-role/stream-app/session",
    ],
)
def test_account_user_and_session_are_principals(principal: str) -> None:
    assert (
        json.loads(bucket_policy("b", principal))["Statement"][0]["Principal"]["AWS"] == principal
    )


@pytest.mark.parametrize(
    "principal",
    [
        "",
        "*",
        "me",
        "123456789012",
        "arn:aws:s3:::b",
        "arn:aws:iam::1:root",
        "arn:aws:iam::123456789012:role/*",
        "arn:aws:iam::123456789012:group/x",
        f"{ROLE} x",
        f"{ROLE}\n",
    ],
)
def test_what_is_nobody_is_refused(principal: str) -> None:
    with pytest.raises(ConfigurationError, match="--principal is"):
        bucket_policy("b", principal)
