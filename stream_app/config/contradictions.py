"""Contradictions between settings that are right each by itself.

Each reads `FOUND; write EXPECTED`. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import permutations
from typing import Any, Final

from stream_app.config.bucket_names import is_directory_bucket, needs_virtual_host
from stream_app.config.settings import S3, Kafka, environment_name, secret_file_key, setting_spec

_SASL_KEYS: Final = ("sasl_mechanism", "sasl_username", "sasl_password")
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
    for key in (it.name for it in fields(Kafka) if setting_spec(it).secret):
        if {key, secret_file_key(key)} <= present:
            yield f"{key} and {secret_file_key(key)} are both set; write one of them"
    if "security_protocol" not in wrong:
        protocol = values.get("security_protocol", defaults.security_protocol)
        yield from _protocol_contradictions(protocol, present, wrong)


def _protocol_contradictions(protocol: str, present: set[str], wrong: set[str]) -> Iterator[str]:
    """Yield a mistake for each setting that the protocol needs, or does not use."""
    if protocol.startswith("sasl_"):
        for key in _SASL_KEYS:
            if not {key, secret_file_key(key)} & (present | wrong):
                yield (
                    f'{key} is missing with security_protocol = "{protocol}"; write {key} or set '
                    f"{environment_name('kafka', key)}"
                )
    sasl_keys = (*_SASL_KEYS, secret_file_key("sasl_password"))
    unused = {key: "sasl_ssl" for key in sasl_keys if not protocol.startswith("sasl_")}
    unused |= {key: "ssl or sasl_ssl" for key in _SSL_KEYS if not protocol.endswith("ssl")}
    for key, needed in unused.items():
        if key in present:
            yield (
                f'{key} is set but security_protocol is "{protocol}"; write {needed} there, or '
                f"remove {key}"
            )


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
