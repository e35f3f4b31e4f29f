"""Constraints on the values of settings: names, addresses and texts that Kafka and S3 accept.

A value that becomes part of a header, a host name or a key is checked here, before anything starts:
none can contain a line end, so none can add a header.

Pure: a value in, yes or no out.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from stream_app.config.bucket_names import is_bucket_name

KAFKA_PORT_DEFAULT: Final = 9092
PIPELINE_BYTES_MAX: Final = 1_024
PREFIX_BYTES_MAX: Final = 512
"""S3 keys have at most 1,024 bytes, and the part after the prefix takes about 100."""
PAYLOAD_TEXT_BYTES_MAX: Final = 65_536
CONTENT_TYPE_BYTES_MAX: Final = 256
KMS_KEY_ID_BYTES_MAX: Final = 2_048
ROLE_ARN_BYTES_MIN: Final = 20
ROLE_ARN_BYTES_MAX: Final = 2_048
"""Both limits are those of AssumeRole."""
TAGS_MAX: Final = 10
TAG_NAME_MAX: Final = 128
TAG_VALUE_MAX: Final = 256
"""All three limits are those of S3; the latter two in characters."""
TAGS_BYTES_MAX: Final = 4_096
"""Tags are sent in a header, URL-encoded, and S3 accepts 8 KiB for all headers of a request."""
TAG_CHARACTERS: Final = "letters, digits, spaces and _ . : / = + - @"

Tags = tuple[tuple[str, str], ...]
"""Names and values."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """Values that a setting accepts."""

    expected: str
    """Description of a right value; completes "write ..."."""
    is_valid: Callable[[Any], bool]
    """Predicate on values of the right type."""
    kind: type = str
    """Type in TOML: text, a whole number, true or false, or a table of texts."""


def matching(pattern: str, expected: str) -> Constraint:
    """Return a constraint to texts that match the whole pattern."""
    compiled = re.compile(pattern)
    return Constraint(expected, lambda text: compiled.fullmatch(text) is not None)


def whole(least: int, most: int) -> Constraint:
    """Return a constraint to whole numbers from `least` to `most`."""
    expected = f"a whole number from {least} to {most}"
    return Constraint(expected, lambda number: least <= number <= most, int)


def one_of(*choices: str) -> Constraint:
    """Return a constraint to the given texts."""
    expected = "one of " + ", ".join(f'"{choice}"' for choice in choices)
    return Constraint(expected, choices.__contains__)


# --- Addresses -----------------------------------------------------------------------------------


def address(parts: SplitResult) -> tuple[str, int | None]:
    """Return host and port of a URL without credentials; raise ValueError for any other."""
    host, port = parts.hostname or "", parts.port
    if "@" in parts.netloc or port == 0 or not re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:]+", host):
        raise ValueError("no usable host and port")
    return host, port


def broker_addresses(broker: str) -> list[tuple[str, int]]:
    """Split `kafka://HOST:PORT;kafka://HOST2:PORT` into (host, port) pairs; raise ValueError."""
    return [_broker_address(url) for url in broker.split(";")]


def _broker_address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    if url != f"kafka://{parts.netloc}":
        raise ValueError("not kafka://HOST:PORT")
    host, port = address(parts)
    return host, KAFKA_PORT_DEFAULT if port is None else port


def _is_broker(text: str) -> bool:
    try:
        return bool(broker_addresses(text))
    except ValueError:
        return False


def _is_endpoint(text: str) -> bool:
    try:
        address(urlsplit(text))
    except ValueError:
        return False
    # urlsplit() silently drops line ends, so the text itself is checked.
    return re.fullmatch(r"https?://[!-~]+", text) is not None and not set("?#") & set(text)


# --- Texts ---------------------------------------------------------------------------------------


def _is_printable(text: str) -> bool:
    """Return whether the text has no control character."""
    return re.search(r"[\x00-\x1f\x7f-\x9f]", text) is None


def _is_prefix(text: str) -> bool:
    """Return whether keys can begin with the text; no segment may lead out of the prefix."""
    return (
        _is_printable(text)
        and len(text.encode()) <= PREFIX_BYTES_MAX
        and not text.startswith("/")
        and not {".", ".."} & set(text.split("/"))
    )


def _is_role(text: str) -> bool:
    return (
        ROLE_ARN_BYTES_MIN <= len(text) <= ROLE_ARN_BYTES_MAX
        # Self-hosted servers have accounts that are not numbers, or none.
        and re.fullmatch(r"arn:aws[a-z0-9-]*:iam::[A-Za-z0-9_-]*:role/[!-~]+", text) is not None
    )


def _is_content_type(text: str) -> bool:
    """Return whether the text is a media type, with or without parameters."""
    part = r"[A-Za-z0-9!#$&^_.+-]+"
    return (
        len(text) <= CONTENT_TYPE_BYTES_MAX
        and re.fullmatch(rf"{part}/{part}(?:; ?{part}={part})*", text) is not None
    )


# --- Tags ----------------------------------------------------------------------------------------


def encoded_tags(tags: Tags) -> str:
    """Return tags in the format of the header `x-amz-tagging`."""
    return urlencode(tags, quote_via=quote, safe="")


def tag_mistakes(tags: Mapping[str, object]) -> list[str]:
    """Return why S3 would refuse these tags, as `FOUND; write EXPECTED` after `tags `."""
    mistakes = []
    if len(tags) > TAGS_MAX:
        mistakes.append(f"has {len(tags)} entries; write at most {TAGS_MAX}")
    right = []
    for name, value in tags.items():
        if not _is_tag(name, 1, TAG_NAME_MAX) or name.lower().startswith("aws:"):
            mistakes.append(
                f"has the name {name[:TAG_NAME_MAX]!a}; write 1 to {TAG_NAME_MAX} "
                f"{TAG_CHARACTERS}, not beginning with aws:"
            )
        elif not isinstance(value, str) or not _is_tag(value, 0, TAG_VALUE_MAX):
            mistakes.append(
                f"has a value for {name!a} that S3 refuses; write text of at most "
                f"{TAG_VALUE_MAX} {TAG_CHARACTERS}"
            )
        else:
            right.append((name, value))
    size = len(encoded_tags(tuple(right)))
    if not mistakes and size > TAGS_BYTES_MAX:
        mistakes.append(f"takes {size} bytes when URL-encoded; write at most {TAGS_BYTES_MAX}")
    return mistakes


def _is_tag(text: str, least: int, most: int) -> bool:
    return least <= len(text) <= most and re.fullmatch(r"[\w .:/=+@-]*", text) is not None


# --- Constraints ---------------------------------------------------------------------------------

FLAG: Final = Constraint("true or false", lambda _: True, bool)
NAME: Final = Constraint(
    "text without control characters", lambda text: text != "" and _is_printable(text)
)
BROKER: Final = Constraint('kafka://HOST:PORT, several joined by ";"', _is_broker)
TOPIC: Final = matching(
    r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}", "1 to 249 of the characters a-z A-Z 0-9 . _ -"
)
HOST: Final = matching(  # a name, IPv4, or IPv6 without brackets
    r"[A-Za-z0-9._-]{1,253}|(?=.*:.*:)[0-9A-Fa-f:.]{2,45}",
    'an IP address or a host name, for example "0.0.0.0" for all addresses',
)
REGION: Final = matching(  # becomes part of a host name
    r"[A-Za-z0-9_-]{1,64}", 'a region, for example "eu-west-1"'
)
ENDPOINT: Final = Constraint(
    "http://HOST:PORT or https://HOST, without credentials in it", _is_endpoint
)
ID: Final = matching(r"[a-z0-9-]{1,64}", "1 to 64 of the characters a-z 0-9 -")
BUCKET: Final = Constraint(
    "3 to 63 of a-z 0-9 . - that begin and end with a letter or digit, hold no .., are no IP "
    "address, and have none of the beginnings and endings that S3 reserves; for an access point, "
    "its alias (...-s3alias) in place of its ARN",
    is_bucket_name,
)
PIPELINE: Final = Constraint(
    f"a record key of 1 to {PIPELINE_BYTES_MAX} bytes without control characters",
    lambda text: _is_printable(text) and 1 <= len(text.encode()) <= PIPELINE_BYTES_MAX,
)
PREFIX: Final = Constraint(
    f"at most {PREFIX_BYTES_MAX} bytes without control characters, a / in front, or the segments . "
    "and ..",
    _is_prefix,
)
PAYLOAD: Final = Constraint(
    f"an expression of at most {PAYLOAD_TEXT_BYTES_MAX} bytes",
    lambda text: len(text.encode()) <= PAYLOAD_TEXT_BYTES_MAX,
)
ROLE: Final = Constraint("a role's ARN, as in arn:aws:iam::ACCOUNT:role/ROLE", _is_role)
EXTERNAL_ID: Final = matching(
    r"[A-Za-z0-9_+=,.@:/-]{2,1224}", "2 to 1224 of the characters a-z A-Z 0-9 _ + = , . @ : / -"
)
ACCOUNT: Final = matching(r"[0-9]{12}", "an account number of 12 digits, as text")
KMS_KEY_ID: Final = matching(
    rf"[A-Za-z0-9_:/-]{{1,{KMS_KEY_ID_BYTES_MAX}}}",
    f"1 to {KMS_KEY_ID_BYTES_MAX} of the characters a-z A-Z 0-9 _ : / -",
)
CONTENT_TYPE: Final = Constraint(
    f"a media type of at most {CONTENT_TYPE_BYTES_MAX} bytes", _is_content_type
)
TAGS: Final = Constraint(
    f'a table {{ NAME = "VALUE" }} of at most {TAGS_MAX} tags that take at most {TAGS_BYTES_MAX} '
    "bytes when URL-encoded",
    lambda tags: not tag_mistakes(dict(tags)),
    dict,
)
