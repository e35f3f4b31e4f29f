"""What an answer of S3 means, and how long is waited before the next attempt."""

import pytest

from stream_app.errors import PermanentError, TransientError
from stream_app.retries import SECONDS_MAX, TRANSIENT_CODES, Patience, classified

PATIENCE = Patience(retry_for=100.0, give_up_after=10.0)
TRANSIENT = TransientError("SlowDown", "slow down")
PERMANENT = PermanentError("AccessDenied", "no")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("BadDigest", 400),
        ("ConditionalRequestConflict", 409),
        ("ExpiredToken", 400),
        ("IncompleteBody", 400),
        ("InternalError", 500),
        ("OperationAborted", 409),
        ("RequestTimeTooSkewed", 403),
        ("RequestTimeout", 400),
        ("ServiceUnavailable", 503),
        ("SlowDown", 503),
        ("ThrottlingException", 400),
        ("TokenRefreshRequired", 400),
    ],
)
def test_what_time_heals_is_transient(code: str, status: int) -> None:
    assert type(classified(code, status, "")) is TransientError


@pytest.mark.parametrize("code", sorted(TRANSIENT_CODES))
def test_code_that_time_heals_is_transient_whatever_the_status(code: str) -> None:
    assert type(classified(code, 400, "")) is TransientError


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 501, 502, 503, 504, 599])
def test_status_that_time_heals_is_transient_whatever_the_code(status: int) -> None:
    assert type(classified("Unheard", status, "")) is TransientError


def test_error_within_an_answer_200_is_judged_by_its_code() -> None:
    assert type(classified("InternalError", 200, "")) is TransientError
    assert type(classified("AccessDenied", 200, "")) is PermanentError


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("AccessDenied", 403),
        ("AllAccessDisabled", 403),
        ("InvalidAccessKeyId", 403),
        ("InvalidStorageClass", 400),
        ("KMS.NotFoundException", 400),
        ("MethodNotAllowed", 405),
        ("NoSuchBucket", 404),
        ("InvalidBucketName", 400),
        ("AccessControlListNotSupported", 400),
        ("PermanentRedirect", 301),
        ("PreconditionFailed", 412),
        ("EntityTooLarge", 499),
        ("Unknown", 0),
    ],
)
def test_other_refusals_are_permanent(code: str, status: int) -> None:
    assert type(classified(code, status, "")) is PermanentError


def test_error_carries_the_words_of_s3() -> None:
    error = classified("SlowDown", 503, "Please reduce your request rate.")
    assert (error.code, error.message) == ("SlowDown", "Please reduce your request rate.")


@pytest.mark.parametrize(
    ("attempts", "longest"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (9, 60.0)]
)
def test_delay_after_a_transient_error_doubles_up_to_a_minute(
    attempts: int, longest: float
) -> None:
    assert PATIENCE.pause(TRANSIENT, attempts, 1.0) == longest


@pytest.mark.parametrize(("attempts", "longest"), [(1, 5.0), (2, 10.0), (4, 40.0), (5, 60.0)])
def test_delay_after_a_permanent_error_begins_longer(attempts: int, longest: float) -> None:
    assert PATIENCE.pause(PERMANENT, attempts, 1.0) == longest


def test_chance_shortens_a_delay_to_any_length() -> None:
    assert PATIENCE.pause(TRANSIENT, 3, 0.25) == 0.5
    assert PATIENCE.pause(TRANSIENT, 3, 0.0) == 0.0


def test_a_million_attempts_do_not_overflow() -> None:
    assert PATIENCE.pause(TRANSIENT, 1_000_000, 1.0) == SECONDS_MAX


def test_each_kind_of_error_has_its_bound() -> None:
    assert PATIENCE.bound(TRANSIENT) == 100.0
    assert PATIENCE.bound(PERMANENT) == 10.0


@pytest.mark.parametrize(
    ("code", "status"), [("AccessDenied", 500), ("NoSuchBucket", 500), ("NotImplemented", 501)]
)
def test_refusal_is_permanent_whatever_the_status(code: str, status: int) -> None:
    assert type(classified(code, status, "")) is PermanentError
