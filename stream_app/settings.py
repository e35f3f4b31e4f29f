"""Settings: what can be set, what it is for, and which values it takes.

A setting is declared once, as a field of one of the five dataclasses below: its type, its default,
and an `About`. The reader (`config`), its messages and `docs/configuration.md` (by a test) draw on
that declaration, so a new setting is one new field.

Pure: values only. `config.parse` makes them from the operator's text and environment.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from typing import Any, Final, Literal

from stream_app import values

SESSION_TIMEOUT_SECONDS_MIN: Final = 6
"""Kafka's own default for the least that a broker accepts (`group.min.session.timeout.ms`)."""
SESSION_TIMEOUT_SECONDS_MAX: Final = 1800
"""Kafka's own default for the most (`group.max.session.timeout.ms`)."""
WINDOW_SECONDS_MAX: Final = 86_400
GRACE_SECONDS_MAX: Final = 3_600
MEMORY_MIB_MIN: Final = 16
"""Two parts of a multipart upload (8 MiB each): one being sent, one being filled."""
MEMORY_MIB_MAX: Final = 1_048_576
RETRY_SECONDS_MAX: Final = 30 * 86_400
DESTINATIONS_MAX: Final = 10_000
PAYLOAD_DEFAULT: Final = "$event"
HTTP_PORT_MAX: Final = 65_535

Checksum = Literal["sha256", "crc32", "md5"]
SecurityProtocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class About:
    """What a setting is for and which values it takes."""

    help: str
    wanted: str
    """Completes "write ...": what a right value looks like."""
    allows: Callable[[Any], bool]
    """Whether a value of the setting's type is a right one."""
    secret: bool = False
    kind: type = str
    """What it is in TOML: text, a whole number, true or false, or a table of texts."""


def about(setting: "Field[Any]") -> About:
    """Return what a field of one of the dataclasses below declares of itself."""
    declared: About = setting.metadata["about"]
    return declared


def _text(
    help: str,  # noqa: A002 - the word for it
    *,
    wanted: str = "text without control characters",
    allows: Callable[[str], bool] = values.is_name,
    secret: bool = False,
) -> dict[str, About]:
    return {"about": About(help, wanted, allows, secret)}


def _whole(help: str, least: int, most: int) -> dict[str, About]:  # noqa: A002 - the word for it
    def allows(number: int) -> bool:
        return least <= number <= most

    return {"about": About(help, f"a whole number from {least} to {most}", allows, kind=int)}


def _flag(help: str) -> dict[str, About]:  # noqa: A002 - the word for it
    return {"about": About(help, "true or false", lambda _: True, kind=bool)}


def _choice(help: str, *choices: str) -> dict[str, About]:  # noqa: A002 - the word for it
    wanted = "one of " + ", ".join(f'"{choice}"' for choice in choices)
    return {"about": About(help, wanted, choices.__contains__)}


_TOPIC_WANTED: Final = "1 to 249 of the characters a-z A-Z 0-9 . _ -"
_REGION_WANTED: Final = 'a region, for example "eu-west-1"'
_ENDPOINT_WANTED: Final = "http://HOST:PORT or https://HOST, without credentials in it"


@dataclass(frozen=True, slots=True)
class Kafka:
    """The `[kafka]` table."""

    broker: str = field(
        default="kafka://127.0.0.1:9092",
        metadata=_text(
            "Where Kafka answers; several brokers are joined by a semicolon.",
            wanted='kafka://HOST:PORT, several joined by ";"',
            allows=values.is_broker,
        ),
    )
    group: str = field(
        default="stream-app",
        metadata=_text(
            "The consumer group. Workers of one group share the partitions; another group delivers "
            "every event again.",
            wanted=_TOPIC_WANTED,
            allows=values.is_topic,
        ),
    )
    events_topic: str = field(
        default="events",
        metadata=_text("The topic that is read.", wanted=_TOPIC_WANTED, allows=values.is_topic),
    )
    receipts_topic: str = field(
        default="delivery-receipts",
        metadata=_text(
            "The topic that delivery receipts are published to.",
            wanted=_TOPIC_WANTED,
            allows=values.is_topic,
        ),
    )
    session_timeout_seconds: int = field(
        default=10,
        metadata=_whole(
            "How long a worker that died keeps its partitions. The broker's own bounds apply too.",
            SESSION_TIMEOUT_SECONDS_MIN,
            SESSION_TIMEOUT_SECONDS_MAX,
        ),
    )
    security_protocol: SecurityProtocol = field(
        default="plaintext",
        metadata=_choice(
            "How to speak to the brokers: encrypted (`ssl`), with a login (`sasl_plaintext`), or "
            "both (`sasl_ssl`).",
            *("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
        ),
    )
    sasl_mechanism: SaslMechanism | None = field(
        default=None,
        metadata=_choice(
            "How to log in; needed with the two `sasl_` protocols.",
            *("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        ),
    )
    sasl_username: str | None = field(
        default=None, metadata=_text("The user to log in as; needed with the `sasl_` protocols.")
    )
    sasl_password: str | None = field(
        default=None,
        repr=False,
        metadata=_text(
            "That user's password. Better in the environment than in a file.", secret=True
        ),
    )
    ssl_ca_file: str | None = field(
        default=None,
        metadata=_text(
            "PEM file of the authorities that may sign the brokers' certificates; left out: those "
            "that the machine trusts."
        ),
    )
    ssl_certificate_file: str | None = field(
        default=None, metadata=_text("PEM file of our own certificate, where brokers ask for one.")
    )
    ssl_key_file: str | None = field(
        default=None, metadata=_text("PEM file of that certificate's private key, unencrypted.")
    )


@dataclass(frozen=True, slots=True)
class S3:
    """The `[s3]` table: defaults for every destination."""

    region: str = field(
        default="us-east-1",
        metadata=_text(
            "The buckets' region.",
            wanted=_REGION_WANTED,
            allows=values.is_region,
        ),
    )
    endpoint_url: str | None = field(
        default=None,
        metadata=_text(
            "Where an S3 server other than AWS answers; left out: AWS.",
            wanted=_ENDPOINT_WANTED,
            allows=values.is_endpoint,
        ),
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """The `[delivery]` table."""

    window_seconds: int = field(
        default=60,
        metadata=_whole("How long a window lasts.", 1, WINDOW_SECONDS_MAX),
    )
    grace_seconds: int = field(
        default=2,
        metadata=_whole(
            "How long past its end an idle partition's window waits for late records.",
            0,
            GRACE_SECONDS_MAX,
        ),
    )
    memory_max_mib: int = field(
        default=192,
        metadata=_whole(
            "Most bytes of lines and compressed data that a worker holds, in MiB; beyond it the "
            "backlog waits in Kafka.",
            MEMORY_MIB_MIN,
            MEMORY_MIB_MAX,
        ),
    )
    retry_for_seconds: int = field(
        default=86_400,
        metadata=_whole(
            "How long an upload is retried that fails for a reason which time heals.",
            1,
            RETRY_SECONDS_MAX,
        ),
    )
    give_up_after_seconds: int = field(
        default=600,
        metadata=_whole(
            "How long an upload is retried that S3 refuses until somebody acts (a missing right, a "
            "missing bucket).",
            1,
            RETRY_SECONDS_MAX,
        ),
    )


@dataclass(frozen=True, slots=True)
class Http:
    """The `[http]` table: where a worker can be watched."""

    bind: str = field(
        default="127.0.0.1",
        metadata=_text(
            "The address at which a worker answers `/metrics`, `/health/live` and `/health/ready`. "
            "Whoever reaches it may read them.",
            wanted='an IP address or a host name, for example "0.0.0.0" for all addresses',
            allows=values.is_host,
        ),
    )
    port: int = field(
        default=9108,
        metadata=_whole(
            "The port; where it is taken, the first free one of the 31 behind it, so that several "
            "workers of a machine have one each. 0: none, nothing is served.",
            0,
            HTTP_PORT_MAX,
        ),
    )


@dataclass(frozen=True, slots=True)
class Destination:
    """One `[[destinations]]` entry: which events, what of each, and where it goes."""

    id: str = field(
        metadata=_text(
            "Its name in receipts, logs and metrics; unique.",
            wanted="1 to 64 of the characters a-z 0-9 -",
            allows=values.is_id,
        )
    )
    bucket: str = field(
        metadata=_text(
            "The bucket that its objects go to.",
            wanted="3 to 63 of a-z 0-9 . - that begin and end with a letter or digit, hold no .., "
            "are no IP address, and have none of the beginnings and endings that S3 reserves",
            allows=values.is_bucket,
        )
    )
    pipeline: str | None = field(
        default=None,
        metadata=_text(
            "The record key of the events that it takes; left out: every event.",
            wanted=f"a record key of 1 to {values.PIPELINE_BYTES_MAX} bytes without control "
            "characters",
            allows=values.is_pipeline,
        ),
    )
    prefix: str = field(
        default="",
        metadata=_text(
            "The beginning of its objects' keys; usually it ends with a slash.",
            wanted=f"at most {values.PREFIX_BYTES_MAX} bytes without control characters, a / in "
            "front, or the segments . and ..",
            allows=values.is_prefix,
        ),
    )
    payload: str = field(
        default=PAYLOAD_DEFAULT,
        metadata=_text(
            "JavaScript expression over `$event` whose value becomes a line; `undefined` skips the "
            "event. Empty: the whole event.",
            wanted=f"an expression of at most {values.PAYLOAD_BYTES_MAX} bytes",
            allows=values.is_payload,
        ),
    )
    region: str | None = field(
        default=None,
        metadata=_text(
            "Its bucket's region; left out: that of `[s3]`.",
            wanted=_REGION_WANTED,
            allows=values.is_region,
        ),
    )
    endpoint_url: str | None = field(
        default=None,
        metadata=_text(
            "Where its S3 server answers; left out: that of `[s3]`.",
            wanted=_ENDPOINT_WANTED,
            allows=values.is_endpoint,
        ),
    )
    role_arn: str | None = field(
        default=None,
        metadata=_text(
            "The role to assume for it; left out: our own credentials.",
            wanted="a role's ARN, for example arn:aws:iam::123456789012:role/stream-app",
            allows=values.is_role,
        ),
    )
    external_id: str | None = field(
        default=None,
        metadata=_text(
            "What the role's owner asks for when it is assumed; only with `role_arn`.",
            wanted="2 to 1224 of the characters a-z A-Z 0-9 _ + = , . @ : / -",
            allows=values.is_external_id,
        ),
    )
    expected_bucket_owner: str | None = field(
        default=None,
        metadata=_text(
            "The account that its bucket must belong to; another one's gets nothing.",
            wanted="an account number of 12 digits, as text",
            allows=values.is_account,
        ),
    )
    acl: str | None = field(
        default=None,
        metadata=_choice(
            "The canned ACL of its objects; left out: none is sent.",
            *("private", "public-read", "public-read-write", "authenticated-read"),
            *("aws-exec-read", "bucket-owner-read", "bucket-owner-full-control"),
        ),
    )
    storage_class: str | None = field(
        default=None,
        metadata=_choice(
            "The storage class of its objects; left out: the bucket's.",
            *("STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR"),
            *("GLACIER", "DEEP_ARCHIVE", "REDUCED_REDUNDANCY", "EXPRESS_ONEZONE"),
        ),
    )
    sse: str | None = field(
        default=None,
        metadata=_choice(
            "How S3 encrypts its objects; left out: as the bucket says.",
            *("AES256", "aws:kms", "aws:kms:dsse"),
        ),
    )
    kms_key_id: str | None = field(
        default=None,
        metadata=_text(
            'The KMS key (id, ARN or alias) to encrypt under; only with an `sse` of `"aws:kms"` or '
            '`"aws:kms:dsse"`.',
            wanted=f"1 to {values.KMS_KEY_ID_BYTES_MAX} of the characters a-z A-Z 0-9 _ : / -",
            allows=values.is_kms_key_id,
        ),
    )
    tags: values.Tags | None = field(
        default=None,
        metadata={
            "about": About(
                "Tags of its objects.",
                f'a table {{ NAME = "VALUE" }} of at most {values.TAGS_MAX} tags that take at most '
                f"{values.TAGS_BYTES_MAX} bytes when URL-encoded",
                values.are_tags,
                kind=dict,
            )
        },
    )
    content_type: str = field(
        default="application/gzip",
        metadata=_text(
            "The content type of its objects.",
            wanted=f"a media type of at most {values.CONTENT_TYPE_BYTES_MAX} bytes",
            allows=values.is_content_type,
        ),
    )
    content_encoding: str | None = field(
        default=None,
        metadata=_choice(
            "The content encoding of its objects. With it browsers unpack them, and some other "
            "readers unpack them twice.",
            "gzip",
        ),
    )
    checksum: Checksum = field(
        default="sha256",
        metadata=_choice(
            "The checksum by which S3 tests each upload. `md5` travels as `Content-MD5`, which "
            "servers know that know no other.",
            *("sha256", "crc32", "md5"),
        ),
    )
    conditional_writes: bool = field(
        default=True,
        metadata=_flag(
            "Whether uploads say `If-None-Match: *`. `false` is for servers that refuse it, and "
            "weakens a promise: see below.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a worker is told; nothing else is read while it runs."""

    kafka: Kafka
    s3: S3
    delivery: Delivery
    destinations: tuple[Destination, ...]
    http: Http = field(default_factory=Http)


TABLES: Final[Mapping[str, type[Kafka | S3 | Delivery | Http]]] = {
    "kafka": Kafka,
    "s3": S3,
    "delivery": Delivery,
    "http": Http,
}
"""The tables whose settings the environment can override, by name."""
