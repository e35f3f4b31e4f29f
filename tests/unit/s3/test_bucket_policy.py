import json
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest

from stream_app.config.settings import Destination
from stream_app.errors import ConfigurationError
from stream_app.s3.bucket_policy import (
    FIVE_ACTIONS,
    GRANTED,
    OPTION_RIGHTS,
    POLICY_BYTES_MAX,
    PRINCIPAL_FORM,
    RIGHTS,
    SESSION_RIGHT,
    bucket_policy,
    bucket_region,
    by_bucket,
    encryption_note,
    missing_right,
    require_principal,
)

ROLE = "arn:aws:iam::123456789012:role/stream-app"
OTHER = "arn:aws:iam::999999999999:role/writer"
WRITE = ["s3:AbortMultipartUpload", "s3:PutObject"]


def to(prefix: str = "", id_: str = "d", **options: Any) -> Destination:
    return Destination(id_, "b", prefix=prefix, **options)


def statements(destinations: Sequence[Destination], *arguments: Any, **options: Any) -> Any:
    document = json.loads(bucket_policy(destinations, *(arguments or (ROLE,)), **options))
    assert document.pop("Version") == "2012-10-17"
    assert document.pop("Id") == "allow-stream-app-limited-access"
    found = document.pop("Statement")
    assert document == {}
    assert {it.pop("Effect") for it in found} == {"Allow"}
    return [(it["Principal"]["AWS"], it["Action"], it["Resource"]) for it in found]


LOCATION = (ROLE, ["s3:GetBucketLocation"], ["arn:aws:s3:::b"])


def test_least_policy_is_to_write_below_the_prefix_and_to_find_the_region() -> None:
    expected = [LOCATION, (ROLE, WRITE, ["arn:aws:s3:::b/test/*"])]
    assert statements([to("test/")]) == expected
    assert statements([to("test")]) == expected, "keys of this prefix are below test/ as well"


@pytest.mark.parametrize(
    ("options", "further"),
    [
        ({}, []),
        ({"acl": "private"}, ["s3:PutObjectAcl"]),
        ({"tags": (("a", "b"),)}, ["s3:PutObjectTagging"]),
        ({"tags": ()}, []),
        ({"conditional_writes": False}, ["s3:GetObject"]),
        (
            {"acl": "private", "tags": (("a", "b"),), "conditional_writes": False},
            ["s3:PutObjectAcl", "s3:PutObjectTagging", "s3:GetObject"],
        ),
        ({"sse": "aws:kms", "kms_key_id": "alias/x", "storage_class": "GLACIER"}, []),
    ],
)
def test_least_policy_has_the_rights_that_options_need(
    options: dict[str, Any], further: list[str]
) -> None:
    assert statements([to(**options)]) == [LOCATION, (ROLE, WRITE + further, ["arn:aws:s3:::b/*"])]


def test_option_of_one_destination_gives_nothing_to_the_prefix_of_another() -> None:
    assert statements([to("a/"), to("b/", acl="private"), to("c/")]) == [
        LOCATION,
        (ROLE, WRITE, ["arn:aws:s3:::b/a/*", "arn:aws:s3:::b/c/*"]),
        (ROLE, [*WRITE, "s3:PutObjectAcl"], ["arn:aws:s3:::b/b/*"]),
    ]


def test_prefix_within_another_one_is_not_repeated() -> None:
    assert statements([to("a/b/"), to("a/"), to("ab/"), to("a/")])[1][2] == [
        "arn:aws:s3:::b/a/*",
        "arn:aws:s3:::b/ab/*",
    ]
    assert statements([to("a/"), to()])[1][2] == ["arn:aws:s3:::b/*"]


@pytest.mark.parametrize(
    ("prefix", "resource"),
    [
        ("it's / (a) prefix", "it's / (a) prefix/*"),
        ("a*?b/", "a*b/*"),
        ("${aws:userid}/", "*aws:userid*/*"),
        ("größe/", "gr*e/*"),
        ("a*", "a*/*"),
    ],
)
def test_characters_with_a_meaning_in_a_resource_are_any_text(prefix: str, resource: str) -> None:
    assert statements([to(prefix)])[1][2] == [f"arn:aws:s3:::b/{resource}"]


def test_destination_with_a_role_writes_as_that_role() -> None:
    own = to("own/", "own", role_arn=OTHER)
    assert statements([own, to("a/")]) == [
        (OTHER, ["s3:GetBucketLocation"], ["arn:aws:s3:::b"]),
        (OTHER, WRITE, ["arn:aws:s3:::b/own/*"]),
        LOCATION,
        (ROLE, WRITE, ["arn:aws:s3:::b/a/*"]),
    ]
    assert [it[0] for it in statements([own], None)] == [OTHER, OTHER]


def test_document_names_nobody_that_was_not_given() -> None:
    foreign = to("x/", "c", role_arn="arn:aws:iam::minio:role/writer")
    for destinations, named in (
        ([to()], "destination 'd'"),
        ([to("own/", "own", role_arn=OTHER), foreign], "destination 'c'"),
        ([to(id_=it) for it in "abcde"], "destinations 'a', 'b', 'c' and 2 more"),
    ):
        with pytest.raises(ConfigurationError) as failure:
            bucket_policy(destinations, None)
        assert str(failure.value) == (
            f"bucket 'b': who writes is not known: no role_arn of AWS in {named}; write "
            f"--principal {PRINCIPAL_FORM}, the role, user or account that runs the workers"
        )
    assert statements([foreign])[0][0] == ROLE


def test_form_of_a_principal_is_none() -> None:
    with pytest.raises(ConfigurationError):
        require_principal(PRINCIPAL_FORM)


def test_five_actions_are_on_the_whole_bucket() -> None:
    whole = ["arn:aws:s3:::b", "arn:aws:s3:::b/*"]
    assert statements([to("a/"), to("b/", acl="private")], whole_bucket=True) == [
        (
            ROLE,
            [
                "s3:AbortMultipartUpload",
                "s3:GetBucketLocation",
                "s3:PutObject",
                "s3:PutObjectAcl",
                "s3:ListBucketMultipartUploads",
            ],
            whole,
        )
    ]
    assert statements([to(tags=(("a", "b"),))], whole_bucket=True) == [
        (ROLE, [*FIVE_ACTIONS, "s3:PutObjectTagging"], whole)
    ]


def test_policy_of_many_prefixes_fits_what_s3_takes_and_allows_no_further_action() -> None:
    many = [to(f"customer-{number:04}/", f"d-{number}") for number in range(1_000)]
    assert statements(many[:2])[1][2] == [
        "arn:aws:s3:::b/customer-0000/*",
        "arn:aws:s3:::b/customer-0001/*",
    ]
    assert statements(many) == [LOCATION, (ROLE, WRITE, ["arn:aws:s3:::b/*"])]
    assert len(bucket_policy(many[:300], ROLE)) <= POLICY_BYTES_MAX


@pytest.mark.parametrize("partition", ["aws-cn", "aws-us-gov"])
def test_resources_are_in_the_principals_partition(partition: str) -> None:
    for whole_bucket in (False, True):
        found = statements(
            [to()], f"arn:{partition}:iam::123456789012:root", whole_bucket=whole_bucket
        )
        assert {it for _, _, resources in found for it in resources} == {
            f"arn:{partition}:s3:::b",
            f"arn:{partition}:s3:::b/*",
        }


@pytest.mark.parametrize(
    "principal",
    [
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:user/path/me@example.com",
        "arn:aws:sts::123456789012:assumed-role/stream-app/session",
    ],
)
def test_account_user_and_session_are_principals(principal: str) -> None:
    assert statements([to()], principal)[0][0] == principal


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
def test_invalid_principal_is_refused(principal: str) -> None:
    with pytest.raises(ConfigurationError, match="the principal is"):
        bucket_policy([to()], principal)


def test_destinations_of_a_bucket_are_together() -> None:
    one, two, other = to(id_="1"), to(id_="2"), Destination("3", "other")
    assert by_bucket([one, other, two]) == {"b": [one, two], "other": [other]}


def test_key_of_kms_needs_a_policy_of_its_own() -> None:
    assert encryption_note([to(), to(sse="AES256")]) is None
    note = encryption_note([to(), to(id_="a", sse="aws:kms"), to(id_="c", sse="aws:kms:dsse")])
    assert note is not None
    assert note.startswith("destinations 'a', 'c': objects are encrypted under a key of KMS, ")
    assert "kms:GenerateDataKey" in note
    assert "kms:Decrypt" in note


def test_every_right_that_a_request_needs_is_in_the_policies() -> None:
    assert set(RIGHTS.values()) - {SESSION_RIGHT} <= set(FIVE_ACTIONS)
    granted = {
        action
        for acl in (None, "private")
        for tags in (None, (("a", "b"),))
        for conditional_writes in (True, False)
        for _, actions, _ in statements(
            [to(acl=acl, tags=tags, conditional_writes=conditional_writes)]
        )
        for action in actions
    }
    assert granted == GRANTED


@pytest.mark.parametrize(
    ("operation", "right"),
    [
        ("GetBucketLocation", "s3:GetBucketLocation"),
        ("CreateMultipartUpload", "s3:PutObject"),
        ("AbortMultipartUpload", "s3:AbortMultipartUpload"),
        ("UploadPart", "s3:PutObject"),
        ("CreateSession", "s3express:CreateSession"),
    ],
)
def test_missing_right_is_that_of_the_operation(operation: str, right: str) -> None:
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


@pytest.mark.parametrize(
    ("bucket", "words"),
    [
        (
            "orders--use1-az4--x-s3",
            r"s3express:CreateSession on arn:aws:s3express:REGION:ACCOUNT:bucket/orders--use1-az4",
        ),
        (
            "orders-x1-s3alias",
            "s3:GetBucketLocation, s3:AbortMultipartUpload, s3:PutObject on .*:accesspoint/NAME",
        ),
    ],
)
def test_policy_of_a_name_without_its_account_is_refused_with_what_to_allow(
    bucket: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"bucket '{bucket}' is .*{words}.*--bucket"):
        bucket_policy([Destination("d", bucket)], ROLE)
