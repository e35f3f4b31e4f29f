"""An S3 server that allows what a bucket policy allows, and refuses all else.

    client ──request──> classify: operation ─> rights ─> policy ──allowed──> the real server
                                                                 └─refused─> 403 AccessDenied

    async with least_privilege(s3, Policy.parse(printed)) as server:
        ...                                           # server.endpoint_url
    assert server.refused == {"HeadObject"}

The rights of an operation are those of Amazon's Service Authorization Reference. What is not known
here is refused, so that a request of a new kind fails a test rather than passing unseen. Nothing of
the real server's own judgement is relied upon: its key may do everything. Buckets are in the path.
"""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from stream_app.embedded.servers import S3Server
from tests.contract.recorder import Answer, Recorder, Relay, Request, recorder, refusal

SECONDS_MAX: Final = 120.0
DENIED: Final = refusal("403 Forbidden", "AccessDenied", "Access Denied")
UNKNOWN: Final = "an operation that this server does not know"

OPERATIONS: Final = {
    # method, whether a key is named, the subresources of the query
    ("GET", False, frozenset({"location"})): "GetBucketLocation",
    ("GET", False, frozenset({"uploads"})): "ListMultipartUploads",
    ("GET", False, frozenset({"list-type"})): "ListObjectsV2",
    ("GET", False, frozenset()): "ListObjects",
    ("HEAD", False, frozenset()): "HeadBucket",
    ("PUT", True, frozenset()): "PutObject",
    ("PUT", True, frozenset({"partNumber", "uploadId"})): "UploadPart",
    ("PUT", True, frozenset({"acl"})): "PutObjectAcl",
    ("PUT", True, frozenset({"tagging"})): "PutObjectTagging",
    ("POST", True, frozenset({"uploads"})): "CreateMultipartUpload",
    ("POST", True, frozenset({"uploadId"})): "CompleteMultipartUpload",
    ("DELETE", True, frozenset({"uploadId"})): "AbortMultipartUpload",
    ("DELETE", True, frozenset()): "DeleteObject",
    ("GET", True, frozenset({"uploadId"})): "ListParts",
    ("GET", True, frozenset()): "GetObject",
    ("HEAD", True, frozenset()): "HeadObject",
}
RIGHTS: Final = {
    "GetBucketLocation": "s3:GetBucketLocation",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
    "ListObjects": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "PutObject": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "PutObjectAcl": "s3:PutObjectAcl",
    "PutObjectTagging": "s3:PutObjectTagging",
    "CreateMultipartUpload": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObject": "s3:DeleteObject",
    "ListParts": "s3:ListMultipartUploadParts",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
}
HEADER_RIGHTS: Final = {
    "x-amz-acl": "s3:PutObjectAcl",
    "x-amz-grant-full-control": "s3:PutObjectAcl",
    "x-amz-grant-read": "s3:PutObjectAcl",
    "x-amz-grant-read-acp": "s3:PutObjectAcl",
    "x-amz-grant-write-acp": "s3:PutObjectAcl",
    "x-amz-object-lock-legal-hold": "s3:PutObjectLegalHold",
    "x-amz-object-lock-mode": "s3:PutObjectRetention",
    "x-amz-tagging": "s3:PutObjectTagging",
}
"""Rights that a header requires beside the operation's own."""
PARAMETERS: Final = frozenset(
    {
        "continuation-token",
        "delimiter",
        "encoding-type",
        "key-marker",
        "max-keys",
        "max-uploads",
        "prefix",
        "upload-id-marker",
        "x-id",
    }
)
"""Parts of a query that change no right."""


@dataclass(frozen=True)
class Statement:
    actions: tuple[str, ...]
    resources: tuple[str, ...]

    def allows(self, action: str, resource: str) -> bool:
        return any(_matches(it.lower(), action.lower()) for it in self.actions) and any(
            _matches(it, resource) for it in self.resources
        )


@dataclass(frozen=True)
class Policy:
    """Output of `stream-app policy`: one JSON document after the other."""

    statements: tuple[Statement, ...]

    @classmethod
    def parse(cls, text: str) -> "Policy":
        decoder = json.JSONDecoder()
        statements = []
        while text := text.lstrip():
            document, end = decoder.raw_decode(text)
            text = text[end:]
            assert document["Version"] == "2012-10-17"
            statements += [_statement(**it) for it in document["Statement"]]
        assert statements, "no document"
        return cls(tuple(statements))

    def allows(self, action: str, resource: str) -> bool:
        return any(it.allows(action, resource) for it in self.statements)

    @property
    def actions(self) -> set[str]:
        return {action for statement in self.statements for action in statement.actions}

    def without(self, *actions: str) -> "Policy":
        """Return the policy from which these actions are taken."""
        assert set(actions) <= self.actions
        return Policy(
            tuple(
                Statement(tuple(a for a in it.actions if a not in actions), it.resources)
                for it in self.statements
            )
        )


def _statement(Effect: str, Principal: Any, Action: Any, Resource: Any) -> Statement:  # noqa: N803 - Amazon's names
    # A condition, a denial or an exception would have to be understood first: none is taken.
    assert Effect == "Allow"
    assert Principal
    return Statement(_texts(Action), _texts(Resource))


def _texts(given: str | list[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _matches(pattern: str, text: str) -> bool:
    parts = ({"*": ".*", "?": "."}.get(it, re.escape(it)) for it in pattern)
    return re.fullmatch("".join(parts), text, re.DOTALL) is not None


@dataclass(frozen=True)
class Asked:
    """One request and what was made of it."""

    operation: str
    rights: frozenset[str]
    resource: str
    is_allowed: bool


def classify(request: Request) -> tuple[str, frozenset[str], str]:
    """Return the operation, the rights that it takes, and the resource, as the policy names it."""
    parts = urlsplit(request.target)
    bucket, _, key = unquote(parts.path).removeprefix("/").partition("/")
    query = frozenset(parse_qs(parts.query, keep_blank_values=True)) - PARAMETERS
    resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
    operation = OPERATIONS.get((request.method, bool(key), query), UNKNOWN)
    if operation == UNKNOWN or not bucket or "x-amz-copy-source" in request.headers:
        return f"{UNKNOWN}: {request.first_line}", frozenset(), resource
    further = {right for name, right in HEADER_RIGHTS.items() if name in request.headers}
    return operation, frozenset({RIGHTS[operation], *further}), resource


@dataclass
class LeastPrivilege:
    """The server; an answer is given before the request's body is looked at, as S3's is."""

    policy: Policy
    access_key: str
    port_behind: int
    asked: list[Asked] = field(default_factory=list)
    server: Recorder = field(default_factory=lambda: Recorder(()))

    def judge(self, request: Request) -> Answer:
        operation, rights, resource = classify(request)
        is_ours = f"Credential={self.access_key}/" in request.headers.get("authorization", "")
        is_allowed = (
            is_ours and bool(rights) and all(self.policy.allows(it, resource) for it in rights)
        )
        self.asked.append(Asked(operation, rights, resource, is_allowed))
        return Relay(self.port_behind) if is_allowed else DENIED

    @property
    def endpoint_url(self) -> str:
        return self.server.endpoint_url

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def allowed(self) -> set[str]:
        """The operations that were let through."""
        return {it.operation for it in self.asked if it.is_allowed}

    @property
    def refused(self) -> set[str]:
        """The operations that were not."""
        return {it.operation for it in self.asked if not it.is_allowed}

    @property
    def used(self) -> set[str]:
        """The rights that were used."""
        return {right for it in self.asked if it.is_allowed for right in it.rights}


@asynccontextmanager
async def least_privilege(s3: S3Server, policy: Policy) -> AsyncIterator[LeastPrivilege]:
    """Run such a server before `s3`, which does what the policy allows."""
    server = LeastPrivilege(policy, s3.access_key, s3.port)
    async with recorder(rule=server.judge, seconds_max=SECONDS_MAX) as server.server:
        yield server
