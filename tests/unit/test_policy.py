import json
from dataclasses import fields

import pytest

from stream_app.errors import ConfigurationError
from stream_app.policy import (
    ACTIONS,
    OPTION_RIGHTS,
    RIGHTS,
    bucket_policy,
    bucket_region,
    missing_right,
)
from stream_app.settings import Destination

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


def test_every_right_that_a_request_needs_is_in_the_policy() -> None:
    assert set(RIGHTS.values()) <= set(ACTIONS)


@pytest.mark.parametrize(
    ("operation", "right"),
    [
        ("GetBucketLocation", "s3:GetBucketLocation"),
        ("CreateMultipartUpload", "s3:PutObject"),
        ("AbortMultipartUpload", "s3:AbortMultipartUpload"),
    ],
)
def test_missing_right_is_the_operations(operation: str, right: str) -> None:
    assert missing_right(operation, "Access Denied") == right


@pytest.mark.parametrize("right", ["s3:PutObject", "kms:GenerateDataKey", "sts:AssumeRole"])
def test_missing_right_is_the_one_that_s3_names(right: str) -> None:
    words = f"User: {ROLE} is not authorized to perform: {right} on resource: x because"
    assert missing_right("GetBucketLocation", words) == right


@pytest.mark.parametrize(
    ("location", "region"),
    [
        (None, "us-east-1"),
        ("", "us-east-1"),
        ("\n", "us-east-1"),
        ("EU", "eu-west-1"),
        ("eu-central-1", "eu-central-1"),
    ],
)
def test_location_means_a_region(location: str | None, region: str) -> None:
    assert bucket_region(location) == region


def test_right_for_an_option_can_be_granted_by_a_bucket_policy() -> None:
    assert all(right.startswith("s3:Put") for right in OPTION_RIGHTS.values())
    assert set(OPTION_RIGHTS) <= {setting.name for setting in fields(Destination)}


def test_policy_has_the_rights_that_options_need() -> None:
    for options, more in (((), []), (("acl",), []), (("acl", "tags"), ["s3:PutObjectTagging"])):
        (statement,) = json.loads(bucket_policy("b", ROLE, options))["Statement"]
        assert statement["Action"] == [*ACTIONS, *more]
