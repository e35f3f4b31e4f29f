"""Contradictions between settings that are right each by itself.

Each reads `FOUND; write EXPECTED`. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import permutations
from typing import Any, Final

from stream_app.config.bucket_names import is_directory_bucket, needs_virtual_host
from stream_app.config.settings import (
    FORMAT_DEFAULT,
    S3,
    Kafka,
    environment_name,
    secret_file_key,
    setting_spec,
)

_SASL_KEYS: Final = tuple(it.name for it in fields(Kafka) if it.name.startswith("sasl_"))
_PASSWORD_KEYS: Final = ("sasl_username", "sasl_password")
_TOKEN_KEYS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "aws_msk_iam": (("sasl_aws_region",), ("sasl_aws_role_arn",)),
    "oidc": (
        ("sasl_oidc_token_url", "sasl_oidc_client_id", "sasl_oidc_client_secret"),
        ("sasl_oidc_scope", "sasl_oidc_ca_file"),
    ),
}
"""Settings that a token provider needs, and those that it can have, by the provider's name."""
_SECRET_FILES: Final = {
    secret_file_key(it.name): it.name for it in fields(Kafka) if setting_spec(it).secret
}
"""Secret settings, by the setting that names a file with the secret."""
_SSL_KEYS: Final = ("ssl_ca_file", "ssl_certificate_file", "ssl_key_file")
_KMS: Final = ("aws:kms", "aws:kms:dsse")
_DIRECTORY_CLASSES: Final = ("EXPRESS_ONEZONE", "ONEZONE_IA")
"""Storage classes of directory buckets: in availability zones, and in local zones."""


def kafka_contradictions(values: Mapping[str, Any], wrong: set[str]) -> Iterator[str]:
    """Yield a mistake for each contradiction between settings of `[kafka]`.

    A setting that is `wrong` in itself is neither present nor missing: its line is there already.
    """
    defaults = Kafka()
    events = values.get("events_topic", defaults.events_topic)
    receipts = values.get("receipts_topic", defaults.receipts_topic)
    if events == receipts and not wrong & {"events_topic", "receipts_topic"}:
        yield f"events_topic and receipts_topic are both '{events}'; write two topics"
    present = {key for key, value in values.items() if value is not None}
    for key, other in permutations(("ssl_certificate_file", "ssl_key_file")):
        if key in present and other not in present | wrong:
            yield f"{key} is set without {other}; write both or neither"
    for file_key, key in _SECRET_FILES.items():
        if {key, file_key} <= present:
            yield f"{key} and {file_key} are both set; write one of them"
    if "security_protocol" not in wrong:
        set_values = {key: values[key] for key in present}
        yield from _login_contradictions(
            {"security_protocol": defaults.security_protocol} | set_values, wrong
        )


def _login_contradictions(values: Mapping[str, Any], wrong: set[str]) -> Iterator[str]:
    """Yield a mistake for each setting that protocol and login need, or have no use for."""
    protocol = values["security_protocol"]
    needed: dict[str, str] = {}
    unused: dict[str, tuple[str, str]] = {}
    if not protocol.startswith("sasl_"):
        unused = dict.fromkeys(_SASL_KEYS, ("security_protocol", "sasl_ssl"))
    elif "sasl_mechanism" not in wrong:
        needed, unused = _login_keys(
            values.get("sasl_mechanism"), values.get("sasl_token_provider")
        )
    if not protocol.endswith("ssl"):
        unused |= dict.fromkeys(_SSL_KEYS, ("security_protocol", "ssl or sasl_ssl"))
    for key, cause in needed.items():
        if not {key, secret_file_key(key)} & (values.keys() | wrong):
            yield (
                f'{key} is missing with {cause} = "{values[cause]}"; write {key} or set '
                f"{environment_name('kafka', key)}"
            )
    for key in values:
        found = unused.get(key) or unused.get(_SECRET_FILES.get(key, key))
        if found is not None:
            cause, expected = found
            yield (
                f'{key} is set but {cause} is "{values[cause]}"; write {expected} there, or '
                f"remove {key}"
            )


def _login_keys(
    mechanism: str | None, provider: str | None
) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """Return the settings that a login needs, and those that it has no use for.

    Returns:
        By setting: the one that makes it necessary; the one that makes it useless, and the value
        of that with which it would have a use.
    """
    if mechanism != "OAUTHBEARER":
        needed = dict.fromkeys(("sasl_mechanism", *_PASSWORD_KEYS), "security_protocol")
        used = {*needed, secret_file_key("sasl_password")}
        others = () if mechanism is None else (key for key in _SASL_KEYS if key not in used)
        return needed, dict.fromkeys(others, ("sasl_mechanism", "OAUTHBEARER"))
    needed = {"sasl_mechanism": "security_protocol", "sasl_token_provider": "sasl_mechanism"}
    unused = dict.fromkeys(_PASSWORD_KEYS, ("sasl_mechanism", "PLAIN or SCRAM-SHA-512"))
    for name, (keys, options) in _TOKEN_KEYS.items():
        if name == provider:
            needed |= dict.fromkeys(keys, "sasl_token_provider")
        elif provider is not None:
            unused |= dict.fromkeys((*keys, *options), ("sasl_token_provider", name))
    return needed, unused


def destination_contradictions(values: Mapping[str, Any], s3: S3) -> Iterator[str]:
    """Yield a mistake for each contradiction between settings of a destination."""
    style = values.get("addressing_style") or s3.addressing_style
    if style == "path" and needs_virtual_host(values["bucket"]):
        yield (
            'addressing_style is "path", but access points and directory buckets have virtual '
            'hosts only; write addressing_style = "virtual" for this destination'
        )
    if is_directory_bucket(values["bucket"]):
        yield from _directory_contradictions(values)
    elif values.get("storage_class") == _DIRECTORY_CLASSES[0]:
        yield (
            f'storage_class is "{_DIRECTORY_CLASSES[0]}", which only directory buckets (...--x-s3) '
            "have; name one, or write another class"
        )
    sse = values.get("sse")
    if "kms_key_id" in values and sse not in _KMS:
        found = "sse is missing" if sse is None else f'sse is "{sse}"'
        expected = " or ".join(f'sse = "{kind}"' for kind in _KMS)
        yield f"kms_key_id is set but {found}; write {expected}, or remove kms_key_id"
    encoding, format_ = values.get("content_encoding"), values.get("format", FORMAT_DEFAULT)
    if encoding not in (None, format_):
        yield (
            f'content_encoding is "{encoding}" but format is "{format_}"; write the same, or '
            "remove content_encoding"
        )
    if "external_id" in values and "role_arn" not in values:
        yield "external_id is set without role_arn; write both or neither"


def _directory_contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield a mistake for each option that S3 refuses for a directory bucket."""
    for name in ("acl", "tags", "content_encoding"):
        if name in values:
            yield f"{name} is set, but a directory bucket takes none; remove {name}"
    storage_class = values.get("storage_class")
    if storage_class is not None and storage_class not in _DIRECTORY_CLASSES:
        yield (
            f'storage_class is "{storage_class}", which directory buckets do not have; remove it'
        )
    if values.get("sse") == "aws:kms:dsse":
        yield (
            'sse is "aws:kms:dsse", which directory buckets do not have; write "aws:kms" or '
            '"AES256", or remove sse'
        )
    if values.get("kms_key_id", "").startswith("alias/"):
        yield "kms_key_id is an alias; write the id or ARN of the directory bucket's own key"
    if values.get("checksum") == "md5":
        yield 'checksum is "md5", which directory buckets ignore; write "sha256" or "crc32"'
