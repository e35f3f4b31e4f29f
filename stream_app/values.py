"""What the values of settings may be: names, addresses and texts that Kafka and S3 would take.

A value that ends up in a header, a host name or a key is looked at here, before anything is
started: none of them can hold a line end, so none can add a header.

Pure: text in, yes or no out.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, quote, urlencode, urlsplit

KAFKA_PORT_DEFAULT: Final = 9092
PIPELINE_BYTES_MAX: Final = 1_024
PREFIX_BYTES_MAX: Final = 512
"""S3 keys end at 1,024 bytes, and the part after the prefix takes about 100."""
PAYLOAD_BYTES_MAX: Final = 65_536
CONTENT_TYPE_BYTES_MAX: Final = 256
KMS_KEY_ID_BYTES_MAX: Final = 2_048
ROLE_ARN_BYTES_MIN: Final = 20
ROLE_ARN_BYTES_MAX: Final = 2_048
"""Both as AssumeRole has them."""
TAGS_MAX: Final = 10
TAG_NAME_MAX: Final = 128
TAG_VALUE_MAX: Final = 256
"""All three as S3 has them; the latter two in characters."""
TAGS_BYTES_MAX: Final = 4_096
"""They travel in a header, URL-encoded, and S3 takes 8 KiB for all headers of a request."""
TAG_CHARACTERS: Final = "letters, digits, spaces and _ . : / = + - @"

Tags = tuple[tuple[str, str], ...]
"""Names and values."""


def address(parts: SplitResult) -> tuple[str, int | None]:
    """Return host and port of a URL that carries no credentials; raise ValueError."""
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


def is_broker(text: str) -> bool:
    """Tell whether brokers can be at these addresses."""
    try:
        return bool(broker_addresses(text))
    except ValueError:
        return False


def is_host(text: str) -> bool:
    """Tell whether this can be an address to listen at: a name, IPv4, or IPv6 without brackets."""
    return re.fullmatch(r"[A-Za-z0-9._-]{1,253}|(?=.*:.*:)[0-9A-Fa-f:.]{2,45}", text) is not None


def is_region(text: str) -> bool:
    """Tell whether this can be a region's name: it becomes a part of a host name."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text) is not None


def encoded_tags(tags: Tags) -> str:
    """Return tags as the header `x-amz-tagging` has them."""
    return urlencode(tags, quote_via=quote, safe="")


def tag_mistakes(tags: Mapping[str, object]) -> list[str]:
    """Return what S3 would refuse about these tags, as `FOUND; write WANTED` after `tags `."""
    mistakes = []
    if len(tags) > TAGS_MAX:
        mistakes.append(f"has {len(tags)} entries; write at most {TAGS_MAX}")
    right = []
    for name, value in tags.items():
        if not is_tag(name, 1, TAG_NAME_MAX) or name.lower().startswith("aws:"):
            mistakes.append(
                f"has the name {name[:TAG_NAME_MAX]!a}; write 1 to {TAG_NAME_MAX} "
                f"{TAG_CHARACTERS}, not beginning with aws:"
            )
        elif not isinstance(value, str) or not is_tag(value, 0, TAG_VALUE_MAX):
            mistakes.append(
                f"has another value for {name!a} than S3 takes; write text of at most "
                f"{TAG_VALUE_MAX} {TAG_CHARACTERS}"
            )
        else:
            right.append((name, value))
    size = len(encoded_tags(tuple(right)))
    if not mistakes and size > TAGS_BYTES_MAX:
        mistakes.append(f"takes {size} bytes when URL-encoded; write at most {TAGS_BYTES_MAX}")
    return mistakes


def is_tag(text: str, least: int, most: int) -> bool:
    """Tell whether S3 takes this as the name or value of a tag, of so many characters."""
    return least <= len(text) <= most and re.fullmatch(r"[\w .:/=+@-]*", text) is not None


def are_tags(tags: Tags) -> bool:
    """Tell whether S3 takes these tags, and all of them in one header."""
    return not tag_mistakes(dict(tags))


def is_role(text: str) -> bool:
    """Tell whether this is the ARN of a role."""
    return (
        ROLE_ARN_BYTES_MIN <= len(text) <= ROLE_ARN_BYTES_MAX
        # Servers of one's own have accounts that are no numbers, or none.
        and re.fullmatch(r"arn:aws[a-z0-9-]*:iam::[A-Za-z0-9_-]*:role/[!-~]+", text) is not None
    )


def is_external_id(text: str) -> bool:
    """Tell whether AssumeRole takes this."""
    return re.fullmatch(r"[A-Za-z0-9_+=,.@:/-]{2,1224}", text) is not None


def is_account(text: str) -> bool:
    """Tell whether this is the number of an AWS account."""
    return re.fullmatch(r"[0-9]{12}", text) is not None


def is_kms_key_id(text: str) -> bool:
    """Tell whether this can be the id, ARN or alias of a key."""
    return re.fullmatch(rf"[A-Za-z0-9_:/-]{{1,{KMS_KEY_ID_BYTES_MAX}}}", text) is not None


def is_id(text: str) -> bool:
    """Tell whether this can be a destination's id."""
    return re.fullmatch(r"[a-z0-9-]{1,64}", text) is not None


def is_content_type(text: str) -> bool:
    """Tell whether this is a media type, with or without parameters."""
    part = r"[A-Za-z0-9!#$&^_.+-]+"
    return (
        len(text) <= CONTENT_TYPE_BYTES_MAX
        and re.fullmatch(rf"{part}/{part}(?:; ?{part}={part})*", text) is not None
    )


def is_endpoint(text: str) -> bool:
    """Tell whether a server can answer at this URL."""
    try:
        address(urlsplit(text))
    except ValueError:
        return False
    # urlsplit() drops line ends without a word, so the text itself is looked at.
    return re.fullmatch(r"https?://[!-~]+", text) is not None and not set("?#") & set(text)


def is_bucket(text: str) -> bool:
    """Tell whether S3's naming rules for general purpose buckets allow this name."""
    return (
        re.fullmatch(r"[a-z0-9](?:[a-z0-9-]|\.(?!\.)){1,61}[a-z0-9]", text) is not None
        and re.fullmatch(r"[0-9]+(?:\.[0-9]+){3}", text) is None
        and not text.startswith(("xn--", "sthree-", "amzn-s3-demo-"))
        and not text.endswith(("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"))
    )


def is_prefix(text: str) -> bool:
    """Tell whether keys can begin so: nothing climbs out of a prefix."""
    return (
        is_plain(text)
        and len(text.encode()) <= PREFIX_BYTES_MAX
        and not text.startswith("/")
        and not {".", ".."} & set(text.split("/"))
    )


def is_pipeline(text: str) -> bool:
    """Tell whether this can be a record's key."""
    return is_plain(text) and 1 <= len(text.encode()) <= PIPELINE_BYTES_MAX


def is_payload(text: str) -> bool:
    """Tell whether an expression is this short."""
    return len(text.encode()) <= PAYLOAD_BYTES_MAX


def is_topic(text: str) -> bool:
    """Tell whether Kafka takes this as a topic's name."""
    return re.fullmatch(r"[A-Za-z0-9._-]{1,249}", text) is not None and text not in (".", "..")


def is_plain(text: str) -> bool:
    """Tell whether there is no control character in it."""
    return re.search(r"[\x00-\x1f\x7f-\x9f]", text) is None


def is_name(text: str) -> bool:
    """Tell whether there is something in it, and no control character."""
    return text != "" and is_plain(text)
