"""Settings: their meaning, their defaults, and the values that they accept.

A setting is declared once, as a field of one of the five dataclasses below: its type, its default,
and a `SettingSpec`; only `destinations_dir` is in no table. A secret has a second setting, which
names a file with it. The parser, its messages and `docs/configuration.md` (by a test) are derived
from the declaration. The code that uses a setting reads the field; a test fails while an option of
a destination is in no request to S3.

Pure: values only. `config.parser` makes them from the operator's text and environment.
"""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field
from typing import Any, Final, Literal

from stream_app.config import validators
from stream_app.config.validators import Constraint, one_of, whole

SESSION_TIMEOUT_SECONDS_MIN: Final = 6
"""Default of Kafka's `group.min.session.timeout.ms`."""
SESSION_TIMEOUT_SECONDS_MAX: Final = 1800
"""Default of Kafka's `group.max.session.timeout.ms`."""
OFFSET_METADATA_BYTES_MIN: Final = 128
"""Room for a few closings."""
OFFSET_METADATA_BYTES_MAX: Final = 32_767
"""Of a string in Kafka's protocol."""
WINDOW_SECONDS_MAX: Final = 86_400
GRACE_SECONDS_MAX: Final = 3_600
MEMORY_MIB_MIN: Final = 16
"""Two parts of a multipart upload (8 MiB each): one is sent while the other is filled."""
MEMORY_MIB_MAX: Final = 1_048_576
RETRY_SECONDS_MAX: Final = 30 * 86_400
ENVIRONMENT_PREFIX: Final = "STREAM_APP_"
DESTINATIONS_MAX: Final = 100_000
"""Of one group: a worker with so many takes 100 MiB more, and begins within 10 s."""
DESTINATIONS_DIR: Final = "destinations_dir"
"""Key of the folder with further destinations, outside of any table."""
DESTINATIONS_TABLE: Final = "destinations"
DESTINATION_VARIABLES: Final = "destination"
"""Name, in environment variables, of the one destination that they can describe."""
MIB: Final = 1024 * 1024
"""Bytes of the unit in which settings give memory."""
PAYLOAD_DEFAULT: Final = "$event"
FORMAT_DEFAULT: Final = "gzip"
HTTP_PORT_MAX: Final = 65_535
METRICS_DESTINATIONS_MAX: Final = 1_000
"""Default: a page of 11,000 series and 1 MB."""

Checksum = Literal["sha256", "crc32", "md5"]
FormatName = Literal["gzip", "zstd"]
AddressingStyle = Literal["path", "virtual"]
SecurityProtocol = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
TokenProviderName = Literal["aws_msk_iam", "oidc"]


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """Declaration of a setting besides its type and default."""

    help: str
    """Meaning, for `docs/configuration.md`."""
    constraint: Constraint = validators.NAME
    secret: bool = False
    """Whether messages must not show the value."""


def setting_spec(setting: "Field[Any]") -> SettingSpec:
    """Return the specification of a field of one of the dataclasses below."""
    spec: SettingSpec = setting.metadata["spec"]
    return spec


def _spec(
    meaning: str, constraint: Constraint = validators.NAME, *, secret: bool = False
) -> dict[str, SettingSpec]:
    return {"spec": SettingSpec(meaning, constraint, secret)}


def environment_name(table: str, key: str) -> str:
    """Return the variable that overrides `key` of `[table]`."""
    return f"{ENVIRONMENT_PREFIX}{table}_{key}".upper()


def secret_file_key(key: str) -> str:
    """Return the key of the setting that names a file with the secret setting `key`."""
    return f"{key}_file"


@dataclass(frozen=True, slots=True)
class Kafka:
    """The `[kafka]` table."""

    broker: str = field(
        default="kafka://127.0.0.1:9092",
        metadata=_spec(
            "Address of the broker; several are joined by a semicolon.", validators.BROKER
        ),
    )
    group: str = field(
        default="stream-app",
        metadata=_spec(
            "The consumer group. Workers of one group share the partitions; another group delivers "
            "every event again.",
            validators.TOPIC,
        ),
    )
    group_instance_id: str | None = field(
        default=None,
        metadata=_spec(
            "Makes the worker a static member of the group: while it restarts, its partitions wait "
            "for it instead of going to other workers. Each worker needs an id of its own, which "
            "stays through restarts. See below.",
            validators.TOPIC,
        ),
    )
    client_rack: str | None = field(
        default=None,
        metadata=_spec(
            "The rack or availability zone of the worker, as the brokers' `broker.rack` names it. "
            "Brokers with a `replica.selector.class` then let it fetch from a replica there; left "
            "out: from each partition's leader.",
        ),
    )
    accept_unmarked_commits: bool = field(
        default=False,
        metadata=_spec(
            "Whether a partition begins at an offset that another program has committed in this "
            "group: another client, `kafka-consumer-groups --reset-offsets`, or a version before "
            "0.2. By default such a partition is not read, since events before that offset may "
            "never have been delivered. Set it for one start, then remove it.",
            validators.FLAG,
        ),
    )
    events_topic: str = field(
        default="events",
        metadata=_spec("The topic that the events are read from.", validators.TOPIC),
    )
    receipts_topic: str = field(
        default="delivery-receipts",
        metadata=_spec("The topic that delivery receipts are published to.", validators.TOPIC),
    )
    session_timeout_seconds: int = field(
        default=10,
        metadata=_spec(
            "How long a worker that died keeps its partitions. The broker's own bounds apply too.",
            whole(SESSION_TIMEOUT_SECONDS_MIN, SESSION_TIMEOUT_SECONDS_MAX),
        ),
    )
    offset_metadata_bytes_max: int = field(
        default=4096,
        metadata=_spec(
            "Bytes of metadata of a partition's commit, which records the closings of windows that "
            "are not delivered yet: some 500 windows with the default. Not more than the broker's "
            "`offset.metadata.max.bytes`.",
            whole(OFFSET_METADATA_BYTES_MIN, OFFSET_METADATA_BYTES_MAX),
        ),
    )
    security_protocol: SecurityProtocol = field(
        default="plaintext",
        metadata=_spec(
            "Protocol of the connections to the brokers: encrypted (`ssl`), with a login "
            "(`sasl_plaintext`), or both (`sasl_ssl`).",
            one_of("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
        ),
    )
    sasl_mechanism: SaslMechanism | None = field(
        default=None,
        metadata=_spec(
            "How to log in; needed with the two `sasl_` protocols.",
            one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"),
        ),
    )
    sasl_username: str | None = field(
        default=None,
        metadata=_spec("The user to log in as; needed with every mechanism but `OAUTHBEARER`."),
    )
    sasl_password: str | None = field(
        default=None,
        repr=False,
        metadata=_spec(
            "The user's password. Better in a file of its own, or in the environment, than here.",
            secret=True,
        ),
    )
    sasl_password_file: str | None = field(
        default=None,
        metadata=_spec(
            "File that has the user's password and nothing else, in place of `sasl_password`; read "
            "again when it has changed."
        ),
    )
    sasl_token_provider: TokenProviderName | None = field(
        default=None,
        metadata=_spec(
            "Where the tokens of `OAUTHBEARER` come from: AWS credentials, for IAM logins to "
            "Amazon MSK, or a token server of OpenID Connect.",
            one_of("aws_msk_iam", "oidc"),
        ),
    )
    sasl_aws_region: str | None = field(
        default=None,
        metadata=_spec("The cluster's region; needed with `aws_msk_iam`.", validators.REGION),
    )
    sasl_aws_role_arn: str | None = field(
        default=None,
        metadata=_spec(
            "The role to log in to MSK with; left out: the program's own credentials.",
            validators.ROLE,
        ),
    )
    sasl_oidc_token_url: str | None = field(
        default=None,
        metadata=_spec(
            "The token server's token endpoint; needed with `oidc`, and with `https` wherever "
            "others could listen.",
            validators.ENDPOINT,
        ),
    )
    sasl_oidc_client_id: str | None = field(
        default=None,
        metadata=_spec("The client to get tokens for; needed with `oidc`."),
    )
    sasl_oidc_client_secret: str | None = field(
        default=None,
        repr=False,
        metadata=_spec(
            "The client's secret; needed with `oidc`. Better in a file of its own, or in the "
            "environment, than here.",
            secret=True,
        ),
    )
    sasl_oidc_client_secret_file: str | None = field(
        default=None,
        metadata=_spec(
            "File that has the client's secret and nothing else, in place of "
            "`sasl_oidc_client_secret`; read again for each token."
        ),
    )
    sasl_oidc_scope: str | None = field(
        default=None,
        metadata=_spec("The scope of the tokens, if the token server requires one."),
    )
    sasl_oidc_ca_file: str | None = field(
        default=None,
        metadata=_spec(
            "PEM file of the authorities that may sign the token server's certificate; left out: "
            "those that the machine trusts."
        ),
    )
    ssl_ca_file: str | None = field(
        default=None,
        metadata=_spec(
            "PEM file of the authorities that may sign the brokers' certificates; left out: those "
            "that the machine trusts."
        ),
    )
    ssl_certificate_file: str | None = field(
        default=None,
        metadata=_spec("PEM file of the client's certificate, if the brokers require one."),
    )
    ssl_key_file: str | None = field(
        default=None,
        metadata=_spec("PEM file of the client certificate's private key, unencrypted."),
    )

    @property
    def user(self) -> str:
        """Who logs in, for messages."""
        match self.sasl_token_provider:
            case "oidc":
                return f"client '{self.sasl_oidc_client_id}'"
            case "aws_msk_iam":
                role = self.sasl_aws_role_arn
                return "the program's AWS identity" if role is None else f"role '{role}'"
            case _:
                return f"user '{self.sasl_username or 'anonymous'}'"


@dataclass(frozen=True, slots=True)
class S3:
    """The `[s3]` table: defaults for every destination."""

    region: str = field(
        default="us-east-1", metadata=_spec("The buckets' region.", validators.REGION)
    )
    endpoint_url: str | None = field(
        default=None,
        metadata=_spec("URL of an S3 server other than AWS; left out: AWS.", validators.ENDPOINT),
    )
    addressing_style: AddressingStyle | None = field(
        default=None,
        metadata=_spec(
            "Where requests have the bucket's name: in the path (`https://HOST/BUCKET/KEY`) or in "
            "the host (`https://BUCKET.HOST/KEY`). Left out: `path` with an `endpoint_url`, "
            "`virtual` at AWS.",
            one_of("path", "virtual"),
        ),
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """The `[delivery]` table."""

    window_seconds: int = field(
        default=60, metadata=_spec("Length of a window.", whole(1, WINDOW_SECONDS_MAX))
    )
    grace_seconds: int = field(
        default=2,
        metadata=_spec(
            "How long past its end an idle partition's window waits for late records.",
            whole(0, GRACE_SECONDS_MAX),
        ),
    )
    memory_max_mib: int = field(
        default=192,
        metadata=_spec(
            "Most bytes of lines and compressed data that a worker holds, in MiB; beyond it the "
            "backlog waits in Kafka.",
            whole(MEMORY_MIB_MIN, MEMORY_MIB_MAX),
        ),
    )
    retry_for_seconds: int = field(
        default=86_400,
        metadata=_spec(
            "How long an upload is retried after errors that can pass by themselves (S3 "
            "unavailable, throttling).",
            whole(1, RETRY_SECONDS_MAX),
        ),
    )
    give_up_after_seconds: int = field(
        default=600,
        metadata=_spec(
            "How long an upload is retried after errors that somebody must fix (a missing "
            "permission, a missing bucket).",
            whole(1, RETRY_SECONDS_MAX),
        ),
    )


@dataclass(frozen=True, slots=True)
class Http:
    """The `[http]` table: a worker's server for metrics and health."""

    bind: str = field(
        default="127.0.0.1",
        metadata=_spec(
            "The address at which a worker serves `/metrics`, `/health/live` and `/health/ready`. "
            "Anyone who can reach it can read them.",
            validators.HOST,
        ),
    )
    port: int = field(
        default=9108,
        metadata=_spec(
            "The port; if it is taken, the first free one of the next 31, so that several workers "
            "on one machine have one each. 0: nothing is served.",
            whole(0, HTTP_PORT_MAX),
        ),
    )
    metrics_destinations_max: int = field(
        default=METRICS_DESTINATIONS_MAX,
        metadata=_spec(
            "Number of destinations that have metrics of their own, in each worker; those that "
            'fail come first. All others are one, `destination="(others)"`.',
            whole(0, DESTINATIONS_MAX),
        ),
    )


@dataclass(frozen=True, slots=True)
class Destination:
    """One `[[destinations]]` entry: which events, which part of them, and where to."""

    id: str = field(metadata=_spec("Name in receipts, logs and metrics; unique.", validators.ID))
    bucket: str = field(metadata=_spec("The objects' bucket.", validators.BUCKET))
    pipeline: str | None = field(
        default=None,
        metadata=_spec(
            "The record key of the events to deliver; left out: every event.", validators.PIPELINE
        ),
    )
    prefix: str = field(
        default="",
        metadata=_spec(
            "Prefix of the objects' keys; usually ends with a slash.", validators.PREFIX
        ),
    )
    payload: str = field(
        default=PAYLOAD_DEFAULT,
        metadata=_spec(
            "JavaScript expression over `$event` whose value becomes a line; `undefined` skips the "
            "event. Empty: the whole event.",
            validators.PAYLOAD,
        ),
    )
    format: FormatName = field(
        default=FORMAT_DEFAULT,
        metadata=_spec(
            "How the objects are compressed: their keys end with `.gz` or `.zst`. `zstd` makes "
            "smaller objects.",
            one_of("gzip", "zstd"),
        ),
    )
    region: str | None = field(
        default=None,
        metadata=_spec("The bucket's region; left out: that of `[s3]`.", validators.REGION),
    )
    endpoint_url: str | None = field(
        default=None,
        metadata=_spec("URL of the S3 server; left out: that of `[s3]`.", validators.ENDPOINT),
    )
    addressing_style: AddressingStyle | None = field(
        default=None,
        metadata=_spec(
            "Where requests have the bucket's name; left out: as `[s3]` has it.",
            one_of("path", "virtual"),
        ),
    )
    role_arn: str | None = field(
        default=None,
        metadata=_spec(
            "The role to assume; left out: the program's own credentials.", validators.ROLE
        ),
    )
    external_id: str | None = field(
        default=None,
        metadata=_spec(
            "The external ID that the role's owner requires to assume it; only with `role_arn`.",
            validators.EXTERNAL_ID,
        ),
    )
    expected_bucket_owner: str | None = field(
        default=None,
        metadata=_spec(
            "The account that must own the bucket; if another one does, S3 refuses every upload.",
            validators.ACCOUNT,
        ),
    )
    acl: str | None = field(
        default=None,
        metadata=_spec(
            "The objects' canned ACL; left out: none is sent.",
            one_of(
                *("private", "public-read", "public-read-write", "authenticated-read"),
                *("aws-exec-read", "bucket-owner-read", "bucket-owner-full-control"),
            ),
        ),
    )
    storage_class: str | None = field(
        default=None,
        metadata=_spec(
            "The objects' storage class; left out: the bucket's.",
            one_of(
                *("STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR"),
                *("GLACIER", "DEEP_ARCHIVE", "REDUCED_REDUNDANCY", "EXPRESS_ONEZONE"),
            ),
        ),
    )
    sse: str | None = field(
        default=None,
        metadata=_spec(
            "The objects' server-side encryption; left out: the bucket's.",
            one_of("AES256", "aws:kms", "aws:kms:dsse"),
        ),
    )
    kms_key_id: str | None = field(
        default=None,
        metadata=_spec(
            'The KMS key (id, ARN or alias) to encrypt with; only with an `sse` of `"aws:kms"` or '
            '`"aws:kms:dsse"`.',
            validators.KMS_KEY_ID,
        ),
    )
    tags: validators.Tags | None = field(
        default=None, metadata=_spec("The objects' tags.", validators.TAGS)
    )
    content_type: str | None = field(
        default=None,
        metadata=_spec(
            "The objects' content type; left out: `application/gzip` or `application/zstd`, as "
            "`format` is.",
            validators.CONTENT_TYPE,
        ),
    )
    content_encoding: str | None = field(
        default=None,
        metadata=_spec(
            "The objects' content encoding. With it browsers decompress them, and some other "
            "clients decompress them twice. The same as `format`.",
            one_of("gzip", "zstd"),
        ),
    )
    checksum: Checksum = field(
        default="sha256",
        metadata=_spec(
            "The checksum by which S3 verifies each upload. `md5` is sent as `Content-MD5`, for "
            "servers that support no other.",
            one_of("sha256", "crc32", "md5"),
        ),
    )
    conditional_writes: bool = field(
        default=True,
        metadata=_spec(
            "Whether uploads send `If-None-Match: *`. `false` is for servers that refuse it, and "
            "weakens a promise: see below.",
            validators.FLAG,
        ),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Whole configuration of a worker; nothing else is read while it runs."""

    kafka: Kafka
    s3: S3
    delivery: Delivery
    destinations: tuple[Destination, ...]
    http: Http = field(default_factory=Http)
    name: str = field(default="the configuration", compare=False)
    """Name of the configuration in messages: its file, or the environment."""
    origins: tuple[tuple[str, tuple[Destination, ...]], ...] = field(default=(), compare=False)
    """Files that describe the destinations, in their order: name, and those of the file."""

    def place(self, index: int) -> str:
        """Return where the destination of this index is described, for messages."""
        for name, destinations in self.origins:
            if index < len(destinations):
                return f"{name}: [[destinations]] {index + 1}"
            index -= len(destinations)
        raise IndexError(index)


DESTINATIONS_DIR_SPEC: Final = SettingSpec(
    "A folder with further destinations, such as a file for each team, relative to the folder of "
    "the configuration file"
)

TABLES: Final[Mapping[str, type[Kafka | S3 | Delivery | Http]]] = {
    "kafka": Kafka,
    "s3": S3,
    "delivery": Delivery,
    "http": Http,
}
"""The tables whose settings the environment can override, by name."""
