import logging
from dataclasses import replace
from pathlib import Path

import pytest

from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.kafka.secrets import PASSWORD, SECRET_BYTES_MAX, RenewedPassword, secret

MADE_UP = "a made-up password"
ADVICE = "write the name of a file that has the secret, on one line, and nothing else"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{MADE_UP}\n", "utf-8")
    return path


def kafka(file: Path) -> Kafka:
    return Kafka(sasl_password_file=str(file))


def test_setting_itself_needs_no_file() -> None:
    assert secret(Kafka(sasl_password=MADE_UP), PASSWORD) == MADE_UP
    assert secret(Kafka(), PASSWORD) is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_line_ends_behind_a_secret_are_no_part_of_it(file: Path, end: str) -> None:
    file.write_bytes(MADE_UP.encode() + end.encode())
    assert secret(kafka(file), PASSWORD) == MADE_UP


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (MADE_UP.encode() + b"\nand more", "it has control characters"),
        (MADE_UP.encode() + b"\xff", "it is not UTF-8"),
        (MADE_UP.encode() + b"x" * SECRET_BYTES_MAX, "it has more than 65536 bytes"),
    ],
)
def test_file_without_a_secret_is_an_error_that_does_not_show_it(
    file: Path, content: bytes, reason: str
) -> None:
    file.write_bytes(content)
    with pytest.raises(SetupError) as caught:
        secret(kafka(file), PASSWORD)
    assert str(caught.value) == (
        f"[kafka] sasl_password_file '{file}' cannot be used: {reason}; {ADVICE}"
    )


def test_missing_file_and_folder_are_errors(tmp_path: Path) -> None:
    for path, reason in [("nowhere", "No such file or directory"), (".", "Is a directory")]:
        with pytest.raises(SetupError, match=f"cannot be used: {reason}; write the name"):
            secret(kafka(tmp_path / path), PASSWORD)


def test_password_is_given_again_only_when_its_file_has_changed(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stream_app")
    password = RenewedPassword(kafka(file))
    assert password.renewed() is None
    file.write_text("another", "utf-8")
    assert (password.renewed(), password.renewed()) == ("another", None)
    assert caplog.messages == [f"secret for Kafka read again: {file}"]


def test_unusable_file_leaves_the_password_and_is_logged_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stream_app")
    password = RenewedPassword(kafka(file))
    file.unlink()
    assert (password.renewed(), password.renewed()) == (None, None)
    file.write_text("another", "utf-8")
    assert password.renewed() == "another"
    assert caplog.messages == [
        (
            f"the old secret for Kafka stays: [kafka] sasl_password_file '{file}' cannot be used: "
            f"No such file or directory; {ADVICE}"
        ),
        f"secret for Kafka read again: {file}",
    ]


def test_password_without_a_file_never_changes() -> None:
    assert RenewedPassword(replace(Kafka(), sasl_password=MADE_UP)).renewed() is None
