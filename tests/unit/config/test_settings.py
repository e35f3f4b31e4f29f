from dataclasses import MISSING, fields
from urllib.parse import parse_qsl

import pytest

from stream_app.config.settings import TABLES, Destination, Kafka, secret_file_key, setting_spec
from stream_app.config.validators import broker_addresses, encoded_tags, tag_mistakes

KINDS = (*TABLES.values(), Destination)


def is_valid(kind: type, name: str, value: object) -> bool:
    (setting,) = (setting for setting in fields(kind) if setting.name == name)
    return setting_spec(setting).constraint.is_valid(value)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, setting.name) for kind in KINDS for setting in fields(kind)]
)
def test_default_is_a_value_that_may_be_written(kind: type, name: str) -> None:
    (setting,) = (setting for setting in fields(kind) if setting.name == name)
    if setting.default is MISSING:
        assert name in ("id", "bucket")
    else:
        assert setting.default is None or setting_spec(setting).constraint.is_valid(setting.default)


def test_each_secret_can_come_from_a_file() -> None:
    for kind in KINDS:
        names = {setting.name for setting in fields(kind)}
        secrets = {setting.name for setting in fields(kind) if setting_spec(setting).secret}
        assert {secret_file_key(name) for name in secrets} <= names


@pytest.mark.parametrize(
    ("broker", "addresses"),
    [
        ("kafka://a:1", [("a", 1)]),
        ("kafka://a", [("a", 9092)]),
        ("kafka://a:1;kafka://b-2.example.com:2", [("a", 1), ("b-2.example.com", 2)]),
        ("kafka://[::1]:1", [("::1", 1)]),
    ],
)
def test_broker_is_split_into_addresses(broker: str, addresses: list[tuple[str, int]]) -> None:
    assert broker_addresses(broker) == addresses
    assert is_valid(Kafka, "broker", broker)


@pytest.mark.parametrize(
    "broker",
    [
        "",
        "a:1",
        "http://a:1",
        "kafka://",
        "kafka://:1",
        "kafka://a:0",
        "kafka://a:65536",
        "kafka://a:x",
        "kafka://a:1/",
        "kafka://a:1/x",
        "kafka://a:1?x",
        "kafka://a:1;",
        "kafka://a:1,kafka://b:1",
        "kafka://a:1; kafka://b:1",
        "kafka://me:secret@a:1",
        "kafka://a b:1",
        "kafka://a\n:1",
        "kafka://[::1:1",
    ],
)
def test_broker_that_faust_could_not_use_is_refused(broker: str) -> None:
    assert not is_valid(Kafka, "broker", broker)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8333", "https://s3.example.com", "https://a/b", "http://[::1]:1"]
)
def test_endpoint_is_an_http_url(url: str) -> None:
    assert is_valid(TABLES["s3"], "endpoint_url", url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a",
        "a:1",
        "ftp://a",
        "http://",
        "http://u:p@a",
        "http://a?x",
        "http://a#x",
        "http://a b",
        "http://a\n",
        "http://a:0",
        "http://a:x",
        "http://[a",
    ],
)
def test_other_urls_are_refused_as_endpoints(url: str) -> None:
    assert not is_valid(TABLES["s3"], "endpoint_url", url)


@pytest.mark.parametrize("name", ["abc", "a-b.c1", "1.2.3", "a" * 63, "1.2.3.4.5"])
def test_bucket_name_by_the_rules_is_allowed(name: str) -> None:
    assert is_valid(Destination, "bucket", name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "Abc",
        "a_b",
        "-ab",
        "ab-",
        ".ab",
        "ab.",
        "a..b",
        "192.168.5.4",
        "xn--abc",
        "sthree-abc",
        "amzn-s3-demo-abc",
        "abc--ol-s3",
        "abc.mrap",
        "abc--x-s3",
        "abc--xa-s3",
        "abc--table-s3",
        "arn:aws:s3:us-east-1:123456789012:accesspoint/orders",
        "abc\n",
    ],
)
def test_bucket_name_against_the_rules_is_refused(name: str) -> None:
    assert not is_valid(Destination, "bucket", name)


@pytest.mark.parametrize("prefix", ["", "a", "a/b/", "a//b", "..a/.b", "ü/", "a" * 512, "ü" * 256])
def test_prefix_is_allowed(prefix: str) -> None:
    assert is_valid(Destination, "prefix", prefix)


@pytest.mark.parametrize(
    "prefix",
    ["/", "/a", "..", "../a", "a/../b", "a/..", "./a", "a\n", "\x7f", "a" * 513, "ü" * 257],
)
def test_prefix_is_refused(prefix: str) -> None:
    assert not is_valid(Destination, "prefix", prefix)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("id", ["a", "0-9", "a" * 64], ["", "A", "a_b", "a" * 65, "a\n"]),
        ("pipeline", ["a", "A b", "ü" * 512], ["", "a\0", "ü" * 513]),
        ("payload", ["", "$event", "a\nb", "x" * 65_536], ["x" * 65_537, "ü" * 32_769]),
    ],
)
def test_destination_settings_have_bounds(name: str, right: list[str], wrong: list[str]) -> None:
    assert all(is_valid(Destination, name, value) for value in right)
    assert not any(is_valid(Destination, name, value) for value in wrong)


@pytest.mark.parametrize(
    "bind", ["127.0.0.1", "10.0.0.1", "::", "fe80::1", "::ffff:1.2.3.4", "a-b.c"]
)
def test_address_to_listen_at_is_allowed(bind: str) -> None:
    assert is_valid(TABLES["http"], "bind", bind)


@pytest.mark.parametrize(
    "bind", ["", " ", "a b", "[::1]", "a:1", "http://a", "a/b", "a\n", "a" * 254]
)
def test_address_that_no_server_can_bind_is_refused(bind: str) -> None:
    assert not is_valid(TABLES["http"], "bind", bind)


CONTROLS = ["a\r\nx-amz-acl: public-read", "a\nb", "a\tb", "a\0", "a\x7f", "ü", "\u2028", " "]


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("region", ["eu-west-1", "us-gov-west-1", "here"], ["", "eu west", "a.b", "a/", "a" * 65]),
        (
            "endpoint_url",
            ["http://127.0.0.1:1", "https://s3.example.com"],
            ["", "s3", "http://u@a"],
        ),
        (
            "role_arn",
            [
                "arn:aws:iam::123456789012:role/stream-app",
                "arn:aws-cn:iam::123456789012:role/a/path/x@y",
                "arn:aws:iam::tenant:role/of-an-own-server",
            ],
            [
                "",
                "stream-app",
                "arn:aws:iam::123456789012:user/x",
                "arn:aws:iam::1:role/",
                "arn:aws:iam::123456789012:role/a b",
                "arn:aws:iam::123456789012:role/" + "a" * 2018,
            ],
        ),
        ("external_id", ["42", "a:b/c=d,e.f@g+h_i-j", "a" * 1224], ["", "a", "a b", "a" * 1225]),
        ("expected_bucket_owner", ["123456789012", "000000000000"], ["", "1", "1" * 13, "a" * 12]),
        (
            "kms_key_id",
            ["alias/archive", "1-2", "arn:aws:kms:eu-west-1:123456789012:key/1-2", "a" * 2048],
            ["", "a b", "a" * 2049],
        ),
        (
            "content_type",
            ["application/gzip", "text/plain; charset=utf-8", "application/x-ndjson;a=b;c=d"],
            ["", "gzip", "a/b/c", "a/b;c", "a/b, c/d", "a/" + "b" * 255],
        ),
        ("acl", ["private", "bucket-owner-full-control"], ["", "Private", "log-delivery-write"]),
        ("addressing_style", ["path", "virtual"], ["", "auto", "Path"]),
        ("storage_class", ["STANDARD_IA", "GLACIER_IR"], ["", "standard", "STANDARD-IA"]),
        ("sse", ["AES256", "aws:kms", "aws:kms:dsse"], ["", "aes256", "kms"]),
        ("format", ["gzip", "zstd"], ["", "none", "GZIP", ".zst"]),
        ("content_encoding", ["gzip", "zstd"], ["", "GZIP", "aws-chunked"]),
        ("checksum", ["sha256", "crc32", "md5"], ["", "SHA256", "none", "crc64nvme"]),
    ],
)
def test_option_accepts_what_aws_accepts_and_nothing_that_adds_a_header(
    name: str, right: list[str], wrong: list[str]
) -> None:
    assert [it for it in right if not is_valid(Destination, name, it)] == []
    assert [it for it in wrong + CONTROLS if is_valid(Destination, name, it)] == []


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"a": ""},
        {"team": "orders and payments", "été": "ß _.:/=+-@1"},
        {"a" * 128: "b" * 256},
        {str(number): "x" for number in range(10)},
        {"a": "x" * 256, **{str(number): "ü" * 64 for number in range(9)}},
    ],
)
def test_tags_by_the_rules_of_s3_are_allowed(tags: dict[str, str]) -> None:
    assert tag_mistakes(tags) == []
    assert is_valid(Destination, "tags", tuple(tags.items()))
    assert parse_qsl(encoded_tags(tuple(tags.items())), keep_blank_values=True) == [*tags.items()]


@pytest.mark.parametrize(
    ("tags", "mistake"),
    [
        ({str(number): "x" for number in range(11)}, "has 11 entries; write at most 10"),
        ({"": "x"}, "has the name ''; write 1 to 128 letters"),
        ({"a" * 129: "x"}, "has the name 'aaa"),
        ({"AWS:x": "x"}, "has the name 'AWS:x'; write 1 to 128 letters"),
        ({"a&b": "x"}, "has the name 'a&b'"),
        ({"a\r\nb": "x"}, r"has the name 'a\r\nb'"),
        ({"a": "x" * 257}, "has a value for 'a' that S3 refuses; write text of at most 256"),
        ({"a": "x\ny"}, "has a value for 'a' that S3 refuses"),
        ({"a": "x;y"}, "has a value for 'a' that S3 refuses"),
        ({"a": 3}, "has a value for 'a' that S3 refuses"),
        (
            {str(number): "ü" * 256 for number in range(3)},
            "takes 4616 bytes when URL-encoded; write at most 4096",
        ),
    ],
)
def test_tags_against_the_rules_of_s3_are_mistakes(tags: dict[str, object], mistake: str) -> None:
    (found,) = tag_mistakes(tags)
    assert found.startswith(mistake)
    assert found.isprintable()
    assert not is_valid(Destination, "tags", tuple(tags.items()))


@pytest.mark.parametrize(
    ("table", "name", "least", "most"),
    [
        ("kafka", "session_timeout_seconds", 6, 1800),
        ("delivery", "window_seconds", 1, 86_400),
        ("delivery", "grace_seconds", 0, 3600),
        ("delivery", "memory_max_mib", 16, 1_048_576),
        ("delivery", "retry_for_seconds", 1, 2_592_000),
        ("delivery", "give_up_after_seconds", 1, 2_592_000),
    ],
)
def test_whole_numbers_have_bounds(table: str, name: str, least: int, most: int) -> None:
    kind = TABLES[table]
    assert [is_valid(kind, name, number) for number in (least - 1, least, most, most + 1)] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("name", ["group", "events_topic", "receipts_topic"])
def test_kafka_names_are_what_kafka_takes_for_topics(name: str) -> None:
    assert all(is_valid(Kafka, name, value) for value in ("a", "A.b_c-1", "a" * 249))
    assert not any(
        is_valid(Kafka, name, value) for value in ("", ".", "..", "a b", "a/b", "a" * 250)
    )


@pytest.mark.parametrize("name", ["sasl_username", "sasl_password", "ssl_ca_file"])
def test_text_is_neither_empty_nor_holds_control_characters(name: str) -> None:
    assert is_valid(Kafka, name, "some text")
    assert not is_valid(Kafka, name, "")
    assert not is_valid(Kafka, name, "a\tb")


def test_region_is_a_name() -> None:
    assert is_valid(TABLES["s3"], "region", "eu-west-1")
    assert not is_valid(TABLES["s3"], "region", "eu west")


@pytest.mark.parametrize("name", ["security_protocol", "sasl_mechanism"])
def test_choice_takes_its_choices_only(name: str) -> None:
    (setting,) = (setting for setting in fields(Kafka) if setting.name == name)
    constraint = setting_spec(setting).constraint
    choices = constraint.expected.removeprefix("one of ").replace('"', "").split(", ")
    assert all(constraint.is_valid(choice) for choice in choices)
    assert not constraint.is_valid(choices[0].swapcase())
