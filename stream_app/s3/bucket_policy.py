"""Bucket policies of workers: the least that destinations need, and the usual five actions.

    destinations of a bucket ─> principal, options, prefix ─> statements ─> JSON

The least allows each principal to write under the prefixes of its destinations, with the options
that these have, to abort an upload, and to find the bucket's region. The five actions are what S3
destinations are usually granted, on all objects of the bucket: such a policy stays when prefixes
and ACLs change, and allows more than a worker does.

No document names a principal that nobody gave: a destination's `role_arn` is one, or the caller's.

Beside it, two responses of S3 are decoded: the right that is missing, and the bucket's region.

Pure: text in, text out.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from stream_app.config.bucket_names import is_directory_bucket, needs_virtual_host
from stream_app.config.settings import Destination
from stream_app.core.object_key import folder_of
from stream_app.errors import ConfigurationError
from stream_app.text import listed

FIVE_ACTIONS: Final = (
    "s3:AbortMultipartUpload",
    "s3:GetBucketLocation",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:ListBucketMultipartUploads",
)
SESSION_RIGHT: Final = "s3express:CreateSession"
"""Right to all requests to a directory bucket, whose policy is not written here."""
RIGHTS: Final = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CreateMultipartUpload": "s3:PutObject",
    "CreateSession": SESSION_RIGHT,
    "GetBucketLocation": "s3:GetBucketLocation",
    "UploadPart": "s3:PutObject",
}
"""Action that a request needs."""
OPTION_RIGHTS: Final = {"acl": "s3:PutObjectAcl", "tags": "s3:PutObjectTagging"}
"""Further right that an option of a destination needs for each write. Encryption under KMS needs
kms:GenerateDataKey and, for parts, kms:Decrypt; the key's own policy grants them."""
HEAD_RIGHT: Final = "s3:GetObject"
"""Right to look before writing, where a destination has no conditional writes."""
GRANTED: Final = frozenset(
    {*RIGHTS.values(), *OPTION_RIGHTS.values(), HEAD_RIGHT} - {SESSION_RIGHT}
)
"""Actions that the least policies are made of."""
POLICY_BYTES_MAX: Final = 20 * 1024
"""Bytes that S3 takes of a bucket policy."""
PRINCIPAL_FORM: Final = "arn:aws:iam::ACCOUNT:role/ROLE"
"""Form of a principal, for people: AWS refuses a policy that has it as it is."""
DESTINATIONS_NAMED_MAX: Final = 3
"""Destinations that an error names."""
_NAMED: Final = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")
_OLD_REGIONS: Final = {"": "us-east-1", "EU": "eu-west-1"}
"""The two oldest regions, by their names in GetBucketLocation."""
_PRINCIPAL: Final = re.compile(
    r"arn:(?P<partition>aws[a-z0-9-]*):(?:iam|sts)::[0-9]{12}:"
    r"(?:root|(?:role|user|assumed-role|federated-user)/[!-)+-~]+)"
)
"""An account, role, user or session. No wildcard: a policy for everybody is not the least."""
_NOT_LITERAL: Final = re.compile(r"[^A-Za-z0-9!_.'()/ =+@:,&;-]+")
"""Characters of a prefix that are no literal text in a resource: `*`, `?` and `${`, or that servers
may compare in different ways."""


def require_principal(text: str) -> str:
    """Return the ARN of an account, role or user.

    Raises:
        ConfigurationError: The text is no such ARN.
    """
    if _PRINCIPAL.fullmatch(text) is None:
        mistake = (
            f"the principal is '{text}'; write the ARN of the role, user or account that runs the "
            f"workers: {PRINCIPAL_FORM} with an account number of 12 digits"
        )
        raise ConfigurationError([mistake])
    return text


def known_principal(destination: Destination) -> str | None:
    """Return the principal of a destination's requests if the configuration says it.

    That is the role that is assumed; a role of a server that is not AWS's is no principal of AWS.
    """
    role = destination.role_arn
    return None if role is None or _PRINCIPAL.fullmatch(role) is None else role


def by_bucket(destinations: Iterable[Destination]) -> dict[str, list[Destination]]:
    """Return the destinations of each bucket, in their order: a bucket has one policy."""
    found: dict[str, list[Destination]] = {}
    for it in destinations:
        found.setdefault(it.bucket, []).append(it)
    return found


def bucket_policy(
    destinations: Sequence[Destination], principal: str | None, *, whole_bucket: bool = False
) -> str:
    """Return the policy document of one bucket: indented JSON, without a line end.

    The resources are in the principal's AWS partition (`aws`, `aws-cn`, `aws-us-gov`).

    Args:
        destinations: All destinations of the bucket, at least one.
        principal: ARN of the account, role or user of those that have no role of their own.
        whole_bucket: The five actions on all objects, rather than the least.

    Raises:
        ConfigurationError: `principal` is not such an ARN, or is missing, or the bucket's own ARN
            cannot be known.
    """
    problem = unknown_arn(destinations)
    if problem is not None:
        raise ConfigurationError([problem])
    given = None if principal is None else require_principal(principal)
    _require_principals(destinations, given)
    by_principal: dict[str, list[Destination]] = {}
    for it in destinations:
        by_principal.setdefault(known_principal(it) or str(given), []).append(it)
    if whole_bucket:
        return _document(_five_actions(by_principal))
    text = _document(_least(by_principal, all_prefixes=False))
    # Too many prefixes for one policy: the actions stay the least.
    return (
        text
        if len(text) <= POLICY_BYTES_MAX
        else _document(_least(by_principal, all_prefixes=True))
    )


def encryption_note(destinations: Iterable[Destination]) -> str | None:
    """Return what to grant beside the bucket's policy for objects under a key of KMS; or None."""
    names = [it.id for it in destinations if (it.sse or "").startswith("aws:kms")]
    if not names:
        return None
    return (
        f"{_listed(names)}: objects are encrypted under a key of KMS, whose own policy must "
        "allow kms:GenerateDataKey and, for objects over 8 MiB, kms:Decrypt to the same principal; "
        "no bucket policy grants them"
    )


def _require_principals(destinations: Sequence[Destination], given: str | None) -> None:
    if given is not None:
        return
    unknown = [it.id for it in destinations if known_principal(it) is None]
    if unknown:
        mistake = (
            f"bucket '{destinations[0].bucket}': who writes is not known: no role_arn of AWS in "
            f"{_listed(unknown)}; write --principal {PRINCIPAL_FORM}, the role, user or account "
            "that runs the workers"
        )
        raise ConfigurationError([mistake])


def _listed(names: Sequence[str]) -> str:
    return listed("destination", [f"'{it}'" for it in names], DESTINATIONS_NAMED_MAX)


def _actions(destination: Destination) -> tuple[str, ...]:
    """Return the least actions on a destination's objects."""
    options = [right for name, right in OPTION_RIGHTS.items() if getattr(destination, name)]
    head = [] if destination.conditional_writes else [HEAD_RIGHT]
    return ("s3:AbortMultipartUpload", "s3:PutObject", *options, *head)


def _least(
    by_principal: dict[str, list[Destination]], *, all_prefixes: bool
) -> Iterable[dict[str, Any]]:
    for principal, destinations in by_principal.items():
        arn = _bucket_arn(principal, destinations[0].bucket)
        yield _statement(principal, ["s3:GetBucketLocation"], [arn])
        by_actions: dict[tuple[str, ...], set[str]] = {}
        for it in destinations:
            stem = "" if all_prefixes else _NOT_LITERAL.sub("*", folder_of(it.prefix))
            by_actions.setdefault(_actions(it), set()).add(stem)
        for actions, stems in by_actions.items():
            resources = [f"{arn}/{stem}*".replace("**", "*") for stem in _outermost(stems)]
            yield _statement(principal, actions, resources)


def _outermost(stems: Iterable[str]) -> list[str]:
    """Return the beginnings of keys, in order, without those that begin with another one."""
    kept: list[str] = []
    for stem in sorted(stems):
        if not kept or not stem.startswith(kept[-1]):
            kept.append(stem)
    return kept


def _five_actions(by_principal: dict[str, list[Destination]]) -> Iterable[dict[str, Any]]:
    for principal, destinations in by_principal.items():
        arn = _bucket_arn(principal, destinations[0].bucket)
        further = [action for it in destinations for action in _actions(it)]
        actions = dict.fromkeys((*FIVE_ACTIONS, *further))
        yield _statement(principal, actions, [arn, f"{arn}/*"])


def _bucket_arn(principal: str, bucket: str) -> str:
    return f"arn:{principal.split(':')[1]}:s3:::{bucket}"


def _statement(principal: str, actions: Iterable[str], resources: Sequence[str]) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": list(actions),
        "Resource": list(resources),
    }


def _document(statements: Iterable[dict[str, Any]]) -> str:
    document = {
        "Version": "2012-10-17",
        "Id": "allow-stream-app-limited-access",
        "Statement": list(statements),
    }
    return json.dumps(document, indent=2)


def unknown_arn(destinations: Sequence[Destination]) -> str | None:
    """Return why no policy can be written for a bucket, and what to allow; None: one can be."""
    bucket = destinations[0].bucket
    if not needs_virtual_host(bucket):
        return None
    if is_directory_bucket(bucket):
        return (
            f"bucket '{bucket}' is a directory bucket, whose ARN has its account; allow "
            f"s3express:CreateSession on arn:aws:s3express:REGION:ACCOUNT:bucket/{bucket}, and "
            "print the policies of other buckets with --bucket"
        )
    actions = dict.fromkeys(action for it in destinations for action in _actions(it))
    return (
        f"bucket '{bucket}' is an access point's alias, which does not have the ARNs of bucket and "
        f"access point; allow {', '.join(('s3:GetBucketLocation', *actions))} on "
        "arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME and on that with /object/* behind it, in the "
        "policies of both, and print the policies of other buckets with --bucket"
    )


def missing_right(operation: str, message: str) -> str:
    """Return the right that an AccessDenied is about.

    AWS often names the right, and then it can be one that no bucket policy grants:
    `kms:GenerateDataKey` where the bucket encrypts under a key of its own, `sts:AssumeRole` where
    the role does not trust us.

    Args:
        operation: The operation, one of `RIGHTS`.
        message: S3's error message.
    """
    named = _NAMED.search(message)
    return RIGHTS[operation] if named is None else named[1]


def bucket_region(location: str | None) -> str:
    """Return the region of a `LocationConstraint` of GetBucketLocation."""
    region = (location or "").strip()
    return _OLD_REGIONS.get(region, region)
