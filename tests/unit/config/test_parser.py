from dataclasses import fields

import pytest

from stream_app.config.parser import folder_of, is_whole, parse, settings_of, toml
from stream_app.config.settings import (
    S3,
    Delivery,
    Destination,
    Http,
    Kafka,
    Settings,
    environment_name,
    secret_file_key,
    setting_spec,
)
from stream_app.errors import ConfigurationError

DESTINATION = '[[destinations]]\nid = "orders"\nbucket = "my-bucket"\n'
WHERE = "app.toml"


def settings(text: str, **environment: str) -> Settings:
    return parse(text, environment, WHERE)


def mistakes(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, environment, WHERE)
    return list(caught.value.mistakes)


def test_one_destination_is_a_whole_configuration() -> None:
    assert settings(DESTINATION) == Settings(
        Kafka(), S3(), Delivery(), (Destination("orders", "my-bucket"),)
    )


def test_every_table_is_read() -> None:
    text = """
        [kafka]
        broker = "kafka://a:1;kafka://b:2"
        group = "g"
        events_topic = "e"
        receipts_topic = "r"
        session_timeout_seconds = 30
        security_protocol = "sasl_ssl"
        sasl_mechanism = "SCRAM-SHA-512"
        sasl_username = "u"
        sasl_password = "p"
        ssl_ca_file = "ca.pem"
        ssl_certificate_file = "c.pem"
        ssl_key_file = "k.pem"
        [s3]
        region = "eu-west-1"
        endpoint_url = "http://127.0.0.1:8333"
        addressing_style = "path"
        [delivery]
        window_seconds = 1
        grace_seconds = 0
        memory_max_mib = 16
        retry_for_seconds = 10
        give_up_after_seconds = 20
        [http]
        bind = "::"
        port = 0
        [[destinations]]
        id = "a"
        pipeline = "orders"
        bucket = "bucket-a"
        prefix = "x/"
        payload = "$event.body"
        [[destinations]]
        id = "b"
        bucket = "bucket-a"
    """
    assert settings(text) == Settings(
        Kafka(
            broker="kafka://a:1;kafka://b:2",
            group="g",
            events_topic="e",
            receipts_topic="r",
            session_timeout_seconds=30,
            security_protocol="sasl_ssl",
            sasl_mechanism="SCRAM-SHA-512",
            sasl_username="u",
            sasl_password="p",  # noqa: S106 - a made-up one
            ssl_ca_file="ca.pem",
            ssl_certificate_file="c.pem",
            ssl_key_file="k.pem",
        ),
        S3("eu-west-1", "http://127.0.0.1:8333", "path"),
        Delivery(1, 0, 16, 10, 20),
        (
            Destination("a", "bucket-a", "orders", "x/", "$event.body"),
            Destination("b", "bucket-a"),
        ),
        Http("::", 0),
    )


def test_blank_payload_is_the_whole_event() -> None:
    assert settings(DESTINATION + 'payload = "  "').destinations[0].payload == "$event"


def test_environment_wins_over_the_file() -> None:
    text = '[kafka]\ngroup = "file"\n[delivery]\nwindow_seconds = 5\n' + DESTINATION
    read = settings(
        text, STREAM_APP_KAFKA_GROUP="variable", STREAM_APP_DELIVERY_WINDOW_SECONDS="30"
    )
    assert (read.kafka.group, read.delivery.window_seconds) == ("variable", 30)


def test_right_variable_hides_a_wrong_value_in_the_file() -> None:
    text = "[delivery]\nwindow_seconds = 0\n" + DESTINATION
    read = settings(text, STREAM_APP_DELIVERY_WINDOW_SECONDS="30")
    assert read.delivery.window_seconds == 30


def test_other_variables_are_ignored() -> None:
    assert settings(DESTINATION, STREAM_APP_CONFIG="x", KAFKA_BROKER="y", STREAM_APP_KAFKA="z")


def test_empty_variable_leaves_an_optional_setting_out() -> None:
    text = '[s3]\nendpoint_url = "http://127.0.0.1:1"\n' + DESTINATION
    assert settings(text, STREAM_APP_S3_ENDPOINT_URL="").s3.endpoint_url is None


def test_empty_variable_is_a_mistake_where_a_value_is_needed() -> None:
    assert mistakes(DESTINATION, STREAM_APP_KAFKA_GROUP="") == [
        (
            "environment: STREAM_APP_KAFKA_GROUP is ''; write 1 to 249 of the characters "
            "a-z A-Z 0-9 . _ -"
        )
    ]


def test_unknown_variable_names_the_nearest_known_one() -> None:
    assert mistakes(DESTINATION, STREAM_APP_KAFKA_GRUP="x") == [
        (
            "environment: variable 'STREAM_APP_KAFKA_GRUP' is unknown; did you mean "
            "STREAM_APP_KAFKA_GROUP?"
        )
    ]


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False)])
def test_environment_has_true_and_false(text: str, value: bool) -> None:  # noqa: FBT001
    found = settings(DESTINATION, STREAM_APP_KAFKA_ACCEPT_UNMARKED_COMMITS=text)
    assert found.kafka.accept_unmarked_commits is value


def test_environment_has_no_other_word_for_true() -> None:
    name = "STREAM_APP_KAFKA_ACCEPT_UNMARKED_COMMITS"
    assert mistakes(DESTINATION, **{name: "yes"}) == [
        f"environment: {name} is 'yes'; write true or false"
    ]


def test_environment_names_are_upper_case() -> None:
    assert environment_name("s3", "endpoint_url") == "STREAM_APP_S3_ENDPOINT_URL"


def test_all_mistakes_are_reported_at_once() -> None:
    text = """
        [kafka]
        brokr = "x"
        [delivery]
        window_seconds = 0
        [s4]
        [[destinations]]
        id = "orders"
        [[destinations]]
        bucket = "my-bucket"
    """
    assert mistakes(text, STREAM_APP_DELIVERY_GRACE_SECONDS="soon") == [
        (
            "app.toml: table 's4' is unknown; remove it, or write one of kafka, s3, delivery, "
            "http, destinations, destinations_dir"
        ),
        "app.toml: [kafka]: key 'brokr' is unknown; did you mean broker?",
        "app.toml: [delivery]: window_seconds is 0; write a whole number from 1 to 86400",
        (
            "environment: STREAM_APP_DELIVERY_GRACE_SECONDS is 'soon'; write a whole number from 0 "
            "to 3600"
        ),
        "app.toml: [[destinations]] 1 (id 'orders'): bucket is missing; write bucket = \"NAME\"",
        'app.toml: [[destinations]] 2: id is missing; write id = "NAME"',
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a = ", "app.toml: line 1, column 5: Invalid value; write valid TOML there"),
        ("\nx = [1,", "app.toml: line 2, column 8: Invalid value; write valid TOML there"),
        ('x = """\nab', "app.toml: line 2, column 3: Unterminated string; write valid TOML there"),
    ],
)
def test_syntax_error_has_line_and_column(text: str, mistake: str) -> None:
    assert mistakes(text) == [mistake]


def test_deep_nesting_is_a_mistake() -> None:
    assert mistakes("x = " + "[" * 5000) == ["app.toml: values are nested too deeply; flatten them"]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("true", "true"),
        ("false", "false"),
        ("1.5", "1.5"),
        ("0x" + "f" * 4000, "a number too large"),
        ('"60"', "'60'"),
        ('"' + "x" * 100 + '"', "'" + "x" * 60 + "…'"),
        (r'"a\u0007b"', r"'a\x07b'"),
        ("[1]", "a list"),
        ("{a = 1}", "a table"),
        ("2026-11-24", "a date or time"),
    ],
)
def test_value_of_another_type_is_shown_short(written: str, shown: str) -> None:
    assert mistakes(f"[delivery]\nwindow_seconds = {written}\n{DESTINATION}") == [
        f"app.toml: [delivery]: window_seconds is {shown}; write a whole number from 1 to 86400"
    ]


def test_whole_number_is_no_text() -> None:
    assert mistakes(DESTINATION + "pipeline = 3") == [
        (
            "app.toml: [[destinations]] 1 (id 'orders'): pipeline is 3; write a record key of 1 to "
            "1024 bytes without control characters"
        )
    ]


@pytest.mark.parametrize("number", ["1_0", " 5", "5 ", "", "0x5", "٣", "9" * 5000])
def test_variable_takes_decimal_digits_only(number: str) -> None:
    (mistake,) = mistakes(DESTINATION, STREAM_APP_DELIVERY_WINDOW_SECONDS=number)
    assert mistake.startswith("environment: STREAM_APP_DELIVERY_WINDOW_SECONDS is '")


def test_variable_that_is_not_utf8_is_a_mistake() -> None:
    (mistake,) = mistakes(DESTINATION, STREAM_APP_KAFKA_SASL_USERNAME="a\udcff")
    assert mistake.startswith(r"environment: STREAM_APP_KAFKA_SASL_USERNAME is 'a\udcff'; write ")


def test_credentials_in_a_url_are_not_shown() -> None:
    text = '[kafka]\nbroker = "kafka://me:se@cret@host:1"\n' + DESTINATION
    assert mistakes(text) == [
        (
            "app.toml: [kafka]: broker is 'kafka://***@host:1'; write kafka://HOST:PORT, several "
            'joined by ";"'
        )
    ]


@pytest.mark.parametrize(("written", "found"), [('"a\\u0000"', "not usable"), ("1234", "not text")])
def test_secret_is_not_shown(written: str, found: str) -> None:
    text = f'[kafka]\nsecurity_protocol = "plaintext"\nsasl_password = {written}\n' + DESTINATION
    assert mistakes(text) == [
        f"app.toml: [kafka]: sasl_password is {found}; write text without control characters"
    ]


def test_secret_is_not_in_the_settings_text() -> None:
    assert "hush" not in repr(Kafka(sasl_password="hush"))  # noqa: S106 - a made-up one


def test_table_must_be_a_table() -> None:
    assert mistakes("kafka = 3\n" + DESTINATION) == ["app.toml: kafka is 3; write a table, [kafka]"]


@pytest.mark.parametrize("written", ["", "destinations = []"])
def test_one_destination_is_needed(written: str) -> None:
    assert mistakes(written) == [
        "app.toml: there are 0 [[destinations]]; write 1 to 100000 of them, each with id and bucket"
    ]


def test_number_of_destinations_is_bounded() -> None:
    (mistake,) = mistakes("destinations = [" + "1," * 100_001 + "]")
    assert mistake.startswith("app.toml: there are 100001 [[destinations]]")


def test_single_brackets_for_destinations_are_a_mistake() -> None:
    (mistake,) = mistakes('[destinations]\nid = "a"')
    assert mistake.startswith("app.toml: destinations is a table; write [[destinations]] in two ")


def test_destination_must_be_a_table() -> None:
    assert mistakes("destinations = [3]") == [
        "app.toml: [[destinations]] 1: the entry is 3; write a table"
    ]


def test_ids_are_unique() -> None:
    assert mistakes(DESTINATION * 3) == [
        (
            "app.toml: [[destinations]] 2 (id 'orders'): id is also that of [[destinations]] 1; "
            "write another one"
        ),
        (
            "app.toml: [[destinations]] 3 (id 'orders'): id is also that of [[destinations]] 1; "
            "write another one"
        ),
    ]


def test_entry_without_an_id_is_not_the_one_that_others_repeat() -> None:
    nameless = '[[destinations]]\nbucket = "my-bucket"\n'
    found = mistakes(nameless * 2 + DESTINATION * 2)
    assert [it for it in found if "id is also" in it] == [
        (
            "app.toml: [[destinations]] 4 (id 'orders'): id is also that of [[destinations]] 3; "
            "write another one"
        )
    ]


def test_unknown_key_of_a_destination_names_the_nearest() -> None:
    assert mistakes(DESTINATION + 'buket = "x"') == [
        "app.toml: [[destinations]] 1 (id 'orders'): key 'buket' is unknown; did you mean bucket?"
    ]


PLAIN_LOGIN = (
    'security_protocol = "sasl_ssl"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'
    'sasl_password = "hush"\n'
)
BEARER_LOGIN = 'security_protocol = "sasl_ssl"\nsasl_mechanism = "OAUTHBEARER"\n'
OIDC_LOGIN = BEARER_LOGIN + (
    'sasl_token_provider = "oidc"\nsasl_oidc_token_url = "https://x/token"\n'
    'sasl_oidc_client_id = "c"\nsasl_oidc_client_secret = "hush"\nsasl_oidc_scope = "kafka"\n'
)


@pytest.mark.parametrize(
    ("kafka", "expected"),
    [
        (
            'events_topic = "delivery-receipts"',
            "events_topic and receipts_topic are both 'delivery-receipts'; write two topics",
        ),
        (
            'sasl_username = "u"',
            (
                'sasl_username is set but security_protocol is "plaintext"; write sasl_ssl there, '
                "or remove sasl_username"
            ),
        ),
        (
            'ssl_ca_file = "ca.pem"',
            (
                'ssl_ca_file is set but security_protocol is "plaintext"; write ssl or sasl_ssl '
                "there, or remove ssl_ca_file"
            ),
        ),
        (
            'security_protocol = "ssl"\nssl_key_file = "k"',
            "ssl_key_file is set without ssl_certificate_file; write both or neither",
        ),
        (
            'security_protocol = "ssl"\nssl_certificate_file = "c"',
            "ssl_certificate_file is set without ssl_key_file; write both or neither",
        ),
        (
            'security_protocol = "sasl_ssl"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"',
            (
                'sasl_password is missing with security_protocol = "sasl_ssl"; write sasl_password '
                "or set STREAM_APP_KAFKA_SASL_PASSWORD"
            ),
        ),
        (
            PLAIN_LOGIN + 'sasl_token_provider = "oidc"',
            (
                'sasl_token_provider is set but sasl_mechanism is "PLAIN"; write OAUTHBEARER '
                "there, or remove sasl_token_provider"
            ),
        ),
        (
            BEARER_LOGIN,
            (
                'sasl_token_provider is missing with sasl_mechanism = "OAUTHBEARER"; write '
                "sasl_token_provider or set STREAM_APP_KAFKA_SASL_TOKEN_PROVIDER"
            ),
        ),
        (
            BEARER_LOGIN + 'sasl_token_provider = "aws_msk_iam"',
            (
                'sasl_aws_region is missing with sasl_token_provider = "aws_msk_iam"; write '
                "sasl_aws_region or set STREAM_APP_KAFKA_SASL_AWS_REGION"
            ),
        ),
        (
            OIDC_LOGIN.replace("sasl_oidc_client_secret", "#"),
            (
                'sasl_oidc_client_secret is missing with sasl_token_provider = "oidc"; write '
                "sasl_oidc_client_secret or set STREAM_APP_KAFKA_SASL_OIDC_CLIENT_SECRET"
            ),
        ),
        (
            OIDC_LOGIN + 'sasl_aws_region = "eu-west-1"',
            (
                'sasl_aws_region is set but sasl_token_provider is "oidc"; write aws_msk_iam '
                "there, or remove sasl_aws_region"
            ),
        ),
        (
            OIDC_LOGIN + 'sasl_username = "u"',
            (
                'sasl_username is set but sasl_mechanism is "OAUTHBEARER"; write PLAIN or '
                "SCRAM-SHA-512 there, or remove sasl_username"
            ),
        ),
    ],
)
def test_contradiction_is_a_mistake(kafka: str, expected: str) -> None:
    assert mistakes(f"[kafka]\n{kafka}\n{DESTINATION}") == [f"app.toml: [kafka]: {expected}"]


@pytest.mark.parametrize(
    ("login", "user"),
    [
        ("", "user 'anonymous'"),
        (PLAIN_LOGIN, "user 'u'"),
        (OIDC_LOGIN, "client 'c'"),
        (
            BEARER_LOGIN + 'sasl_token_provider = "aws_msk_iam"\nsasl_aws_region = "eu-west-1"\n',
            "the program's AWS identity",
        ),
    ],
)
def test_login_has_a_name_for_messages_and_keeps_its_secrets(login: str, user: str) -> None:
    kafka = parse(f"[kafka]\n{login}\n{DESTINATION}", {}, "app.toml").kafka
    assert kafka.user == user
    assert "hush" not in repr(kafka)


@pytest.mark.parametrize(
    "kafka",
    [
        'events_topic = "delivery-receipts"\nreceipts_topic = 3',
        'security_protocol = "tls"\nsasl_username = "u"',
        'security_protocol = "ssl"\nssl_key_file = "k"\nssl_certificate_file = 3',
        (
            'security_protocol = "sasl_ssl"\nsasl_mechanism = "X"\nsasl_username = "u"\n'
            'sasl_password = "p"'
        ),
        BEARER_LOGIN + 'sasl_token_provider = "ouch"\nsasl_aws_region = "eu-west-1"',
        'security_protocol = "sasl_ssl"\nsasl_mechanism = 3\nsasl_oidc_scope = "kafka"',
    ],
)
def test_wrong_setting_causes_no_second_line(kafka: str) -> None:
    assert len(mistakes(f"[kafka]\n{kafka}\n{DESTINATION}")) == 1


@pytest.mark.parametrize("key", [it.name for it in fields(Kafka) if setting_spec(it).secret])
def test_secret_comes_from_one_place(key: str) -> None:
    text = f'[kafka]\nsecurity_protocol = "sasl_ssl"\nsasl_mechanism = "PLAIN"\n{key} = "p"\n'
    variable = environment_name("kafka", secret_file_key(key))
    environment = {variable: "/run/secrets/s", "STREAM_APP_KAFKA_SASL_USERNAME": "u"}
    both = f"app.toml: [kafka]: {key} and {key}_file are both set; write one of them"
    assert both in mistakes(text + DESTINATION, **environment)
    assert both not in mistakes(text + "x = 1\n" + DESTINATION, **environment | {variable: ""})


def test_file_of_a_password_takes_the_place_of_the_password() -> None:
    text = 'security_protocol = "sasl_ssl"\nsasl_mechanism = "PLAIN"\nsasl_username = "u"\n'
    found = settings(f'[kafka]\n{text}sasl_password_file = "p.txt"\n{DESTINATION}').kafka
    assert (found.sasl_password, found.sasl_password_file) == (None, "p.txt")
    assert mistakes(f'[kafka]\nsasl_password_file = "p.txt"\n{DESTINATION}') == [
        (
            'app.toml: [kafka]: sasl_password_file is set but security_protocol is "plaintext"; '
            "write sasl_ssl there, or remove sasl_password_file"
        )
    ]


# --- a folder of destinations, and destinations without a file ------------------------------------

FOLDER = 'destinations_dir = "teams"\n'


def entry(id_: str, more: str = "") -> str:
    return f'[[destinations]]\nid = "{id_}"\nbucket = "my-bucket"\n{more}'


def in_folder(text: str, files: dict[str, str], **environment: str) -> Settings:
    return settings_of(toml(text, WHERE), environment, WHERE, files)


def mistakes_in_folder(text: str, files: dict[str, str], **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        in_folder(text, files, **environment)
    return list(caught.value.mistakes)


def test_destinations_of_the_file_come_before_those_of_the_folder() -> None:
    files = {"teams/a.toml": entry("b") + entry("c"), "teams/b.toml": ""}
    files["teams/c.toml"] = entry("d")
    found = in_folder(FOLDER + entry("a"), files)
    assert [it.id for it in found.destinations] == ["a", "b", "c", "d"]
    assert [found.place(index) for index in range(4)] == [
        "app.toml: [[destinations]] 1",
        "teams/a.toml: [[destinations]] 1",
        "teams/a.toml: [[destinations]] 2",
        "teams/c.toml: [[destinations]] 1",
    ]
    with pytest.raises(IndexError):
        found.place(4)


def test_mistake_in_the_folder_names_its_file() -> None:
    files = {
        "teams/a.toml": entry("a", 'prefx = "x"\n'),
        "teams/b.toml": "a = ",
        "teams/c.toml": "[kafka]\n",
        "teams/d.toml": "destinations = 1\n",
        "teams/e.toml": entry("a") + entry("e") + entry("e"),
    }
    assert mistakes_in_folder(FOLDER, files) == [
        "teams/a.toml: [[destinations]] 1 (id 'a'): key 'prefx' is unknown; did you mean prefix?",
        "teams/b.toml: line 1, column 5: Invalid value; write valid TOML there",
        "teams/c.toml: key 'kafka' is unknown; remove it, or write one of destinations",
        (
            "teams/d.toml: destinations is 1; write [[destinations]] in two pairs of brackets for "
            "each destination"
        ),
        (
            "teams/e.toml: [[destinations]] 1 (id 'a'): id is also that of [[destinations]] 1 of "
            "teams/a.toml; write another one"
        ),
        (
            "teams/e.toml: [[destinations]] 3 (id 'e'): id is also that of [[destinations]] 2; "
            "write another one"
        ),
    ]


def test_folder_without_destinations_is_a_mistake_unless_the_file_has_some() -> None:
    assert mistakes_in_folder(FOLDER, {"teams/a.toml": ""}) == [
        (
            "app.toml: there are 0 [[destinations]] in it and in destinations_dir 'teams'; write 1 "
            "to 100000 of them, each with id and bucket"
        )
    ]
    assert len(in_folder(FOLDER + entry("a"), {"teams/a.toml": ""}).destinations) == 1


@pytest.mark.parametrize(
    ("text", "variable", "found"),
    [
        ("", "", None),
        (FOLDER, "", "teams"),
        (FOLDER, "other", "other"),
        ("", "other", "other"),
        ("destinations_dir = 1", "", None),
        ('destinations_dir = ""', "", None),
        ("", "a\nb", None),
    ],
)
def test_folder_is_named_by_the_file_or_by_a_variable(
    text: str, variable: str, found: str | None
) -> None:
    assert folder_of(toml(text, WHERE), {"STREAM_APP_DESTINATIONS_DIR": variable}) == found


@pytest.mark.parametrize(
    ("text", "environment", "mistake"),
    [
        ("destinations_dir = 1\n", {}, "app.toml: destinations_dir is 1"),
        (
            "",
            {"STREAM_APP_DESTINATIONS_DIR": "a\nb"},
            "environment: STREAM_APP_DESTINATIONS_DIR is 'a\\nb'",
        ),
    ],
)
def test_wrong_name_of_a_folder_is_a_mistake(
    text: str, environment: dict[str, str], mistake: str
) -> None:
    assert mistakes(text + DESTINATION, **environment) == [
        f"{mistake}; write text without control characters"
    ]


ONE = {"STREAM_APP_DESTINATION_ID": "orders", "STREAM_APP_DESTINATION_BUCKET": "my-bucket"}


def test_variables_describe_one_destination() -> None:
    more = {
        "STREAM_APP_DESTINATION_PAYLOAD": " ",
        "STREAM_APP_DESTINATION_PREFIX": "a/",
        "STREAM_APP_DESTINATION_PIPELINE": "",
        "STREAM_APP_DESTINATION_CONDITIONAL_WRITES": "false",
    }
    found = settings('[kafka]\ngroup = "g"\n', **ONE, **more)
    assert found.destinations == (
        Destination("orders", "my-bucket", prefix="a/", conditional_writes=False),
    )
    assert found.kafka.group == "g"
    assert found.place(0) == "environment: [[destinations]] 1"


def test_variables_of_a_destination_are_checked() -> None:
    more = {
        "STREAM_APP_DESTINATION_BUCKET": "",
        "STREAM_APP_DESTINATION_ACL": "open",
        "STREAM_APP_DESTINATION_PREFX": "a/",
    }
    assert mistakes("", **ONE | more) == [
        (
            "environment: variable 'STREAM_APP_DESTINATION_PREFX' is unknown; did you mean "
            "STREAM_APP_DESTINATION_PREFIX?"
        ),
        "environment: STREAM_APP_DESTINATION_BUCKET is missing; set it",
        (
            "environment: STREAM_APP_DESTINATION_ACL is 'open'; write one of \"private\", "
            '"public-read", "public-read-write", "authenticated-read", "aws-exec-read", '
            '"bucket-owner-read", "bucket-owner-full-control"'
        ),
    ]
    assert mistakes("", **ONE, STREAM_APP_DESTINATION_EXTERNAL_ID="ours") == [
        "environment: external_id is set without role_arn; write both or neither"
    ]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        (DESTINATION, "there are [[destinations]] in app.toml"),
        (FOLDER + DESTINATION, "there are [[destinations]] in app.toml"),
        (FOLDER, "destinations_dir is 'teams'"),
    ],
)
def test_destinations_are_in_variables_or_in_files(text: str, other: str) -> None:
    assert mistakes(text, **ONE) == [
        (
            f"environment: STREAM_APP_DESTINATION_BUCKET describes a destination, but {other}; "
            "remove that, or all variables STREAM_APP_DESTINATION_..."
        )
    ]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"STREAM_APP_KAFKA_GROUP": "g"}, False),
        ({"STREAM_APP_DESTINATION_ID": ""}, False),
        ({"STREAM_APP_DESTINATION_ID": "a"}, True),
        ({"STREAM_APP_DESTINATIONS_DIR": "teams"}, True),
    ],
)
def test_environment_that_says_where_events_go_needs_no_file(
    environment: dict[str, str],
    expected: bool,  # noqa: FBT001
) -> None:
    assert is_whole(environment) is expected


OPTIONS = """
    region = "eu-west-1"
    endpoint_url = "https://s3.example.com"
    role_arn = "arn:aws:iam::123456789012:role/stream-app"
    external_id = "ours:42"
    expected_bucket_owner = "123456789012"
    acl = "bucket-owner-full-control"
    storage_class = "GLACIER_IR"
    sse = "aws:kms"
    kms_key_id = "alias/archive"
    tags = { team = "orders", "cost centre" = "42" }
    content_type = "application/x-ndjson"
    content_encoding = "gzip"
    checksum = "crc32"
    conditional_writes = false
"""


def test_every_option_of_a_destination_is_read() -> None:
    assert settings(DESTINATION + OPTIONS).destinations == (
        Destination(
            "orders",
            "my-bucket",
            region="eu-west-1",
            endpoint_url="https://s3.example.com",
            role_arn="arn:aws:iam::123456789012:role/stream-app",
            external_id="ours:42",
            expected_bucket_owner="123456789012",
            acl="bucket-owner-full-control",
            storage_class="GLACIER_IR",
            sse="aws:kms",
            kms_key_id="alias/archive",
            tags=(("team", "orders"), ("cost centre", "42")),
            content_type="application/x-ndjson",
            content_encoding="gzip",
            checksum="crc32",
            conditional_writes=False,
        ),
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('sse = "kms"', """sse is 'kms'; write one of "AES256", "aws:kms", "aws:kms:dsse\""""),
        ("expected_bucket_owner = 123456789012", "expected_bucket_owner is 123456789012; write an"),
        ('conditional_writes = "no"', "conditional_writes is 'no'; write true or false"),
        ("conditional_writes = 0", "conditional_writes is 0; write true or false"),
        ("tags = 3", 'tags is 3; write a table { NAME = "VALUE" } of at most 10 tags'),
        ('tags = ["a"]', 'tags is a list; write a table { NAME = "VALUE" }'),
        ('tags = { "aws:a" = "x" }', "tags has the name 'aws:a'; write 1 to 128 letters"),
        ("tags = { a = 3 }", "tags has a value for 'a' that S3 refuses; write text"),
        ('acl = "private\\r\\nx: y"', r"acl is 'private\r\nx: y'; write one of"),
        (
            'kms_key_id = "x"',
            'kms_key_id is set but sse is missing; write sse = "aws:kms" or sse = "aws:kms:dsse"',
        ),
        (
            'kms_key_id = "x"\nsse = "AES256"',
            'kms_key_id is set but sse is "AES256"; write sse = "aws:kms" or',
        ),
        (
            'content_encoding = "zstd"',
            'content_encoding is "zstd" but format is "gzip"; write the same, or remove',
        ),
        (
            'format = "zstd"\ncontent_encoding = "gzip"',
            'content_encoding is "gzip" but format is "zstd"; write the same, or remove',
        ),
        ('external_id = "xy"', "external_id is set without role_arn; write both or neither"),
    ],
)
def test_wrong_option_of_a_destination_has_one_line(written: str, expected: str) -> None:
    (mistake,) = mistakes(f"{DESTINATION}{written}\n")
    assert mistake.startswith(f"app.toml: [[destinations]] 1 (id 'orders'): {expected}")
    assert mistake.isprintable()


def test_wrong_option_causes_no_second_line() -> None:
    assert len(mistakes(DESTINATION + 'kms_key_id = "x"\nsse = 3\n')) == 1


def test_each_wrong_tag_has_a_line() -> None:
    assert len(mistakes(DESTINATION + 'tags = { "&" = "x", b = "&", c = "right" }\n')) == 2


def test_addressing_style_is_a_setting_of_s3_and_of_a_destination() -> None:
    text = f'[s3]\naddressing_style = "virtual"\n{DESTINATION}addressing_style = "path"\n'
    found = settings(text)
    assert found.s3.addressing_style == "virtual"
    assert found.destinations[0].addressing_style == "path"
    by_variable = settings(DESTINATION, STREAM_APP_S3_ADDRESSING_STYLE="virtual")
    assert by_variable.s3.addressing_style == "virtual"
    (mistake,) = mistakes(DESTINATION + 'addressing_style = "auto"\n')
    assert mistake.endswith('addressing_style is \'auto\'; write one of "path", "virtual"')


DIRECTORY = '[[destinations]]\nid = "orders"\nbucket = "orders--use1-az4--x-s3"\n'
ALIAS = '[[destinations]]\nid = "orders"\nbucket = "orders-x1-s3alias"\n'
VIRTUAL_ONLY = "access points and directory buckets have virtual hosts only"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (ALIAS + 'addressing_style = "path"', VIRTUAL_ONLY),
        ('[s3]\naddressing_style = "path"\n' + ALIAS, VIRTUAL_ONLY),
        (DIRECTORY + 'addressing_style = "path"', VIRTUAL_ONLY),
        (DESTINATION + 'storage_class = "EXPRESS_ONEZONE"', "which only directory buckets"),
        (DIRECTORY + 'storage_class = "STANDARD"', 'storage_class is "STANDARD", which directory'),
        (
            DIRECTORY + 'acl = "private"',
            "acl is set, but a directory bucket takes none; remove acl",
        ),
        (DIRECTORY + 'tags = { a = "b" }', "tags is set, but a directory bucket takes none"),
        (DIRECTORY + 'content_encoding = "gzip"', "content_encoding is set, but a directory"),
        (DIRECTORY + 'sse = "aws:kms:dsse"', 'sse is "aws:kms:dsse", which directory buckets do'),
        (DIRECTORY + 'sse = "aws:kms"\nkms_key_id = "alias/a"', "kms_key_id is an alias; write"),
        (DIRECTORY + 'checksum = "md5"', 'checksum is "md5", which directory buckets ignore'),
    ],
)
def test_option_that_a_kind_of_bucket_never_takes_is_a_mistake(text: str, mistake: str) -> None:
    (found,) = mistakes(text)
    assert found.startswith("app.toml: [[destinations]] 1 (id 'orders'): ")
    assert mistake in found


@pytest.mark.parametrize(
    "text",
    [
        DIRECTORY,
        DIRECTORY + 'storage_class = "EXPRESS_ONEZONE"\nsse = "AES256"\nchecksum = "crc32"',
        DIRECTORY + 'storage_class = "ONEZONE_IA"\nsse = "aws:kms"\nkms_key_id = "1-2"',
        '[s3]\naddressing_style = "path"\n' + ALIAS + 'addressing_style = "virtual"',
        ALIAS + 'acl = "private"\nstorage_class = "STANDARD_IA"',
    ],
)
def test_options_of_each_kind_of_bucket_are_read(text: str) -> None:
    assert settings(text).destinations[0].id == "orders"


def test_arn_of_an_access_point_is_refused_with_what_to_write() -> None:
    arn = "arn:aws:s3:us-east-1:123456789012:accesspoint/orders"
    (found,) = mistakes(f'[[destinations]]\nid = "orders"\nbucket = "{arn}"\n')
    assert found.endswith("for an access point, its alias (...-s3alias) in place of its ARN")
