"""Error responses of S3 as transient or permanent errors."""

import pytest

from stream_app.errors import PermanentError, TransientError
from stream_app.s3.access_check import CREDENTIALS
from stream_app.s3.errors import (
    CREDENTIALS_REFUSED,
    FRESH_SECONDS,
    NOT_THESE,
    TRANSIENT_CODES,
    refusal_of_credentials,
    response_error,
)


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
        ("XAmzContentChecksumMismatch", 400),
    ],
)
def test_error_that_time_heals_is_transient(code: str, status: int) -> None:
    assert type(response_error(code, status, "")) is TransientError


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("BadRequest", "Value for x-amz-checksum-sha256 header is invalid.", TransientError),
        ("BadRequest", "Value for x-amz-checksum-crc32 header is invalid.", TransientError),
        ("BadRequest", "Value for x-amz-acl header is invalid.", PermanentError),
        ("InvalidArgument", "Value for x-amz-checksum-sha256 header is invalid.", PermanentError),
    ],
)
def test_upload_that_was_damaged_on_the_way_is_transient_in_the_words_of_s3mock(
    code: str, message: str, kind: type[Exception]
) -> None:
    assert type(response_error(code, 400, message)) is kind


@pytest.mark.parametrize(
    "code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound", "NotSignedUp"]
)
def test_refusal_of_credentials_is_recognized_in_the_words_of_each_server(code: str) -> None:
    assert code in CREDENTIALS_REFUSED
    assert code in NOT_THESE
    assert code in CREDENTIALS


@pytest.mark.parametrize("code", sorted(TRANSIENT_CODES))
def test_code_that_time_heals_is_transient_whatever_the_status(code: str) -> None:
    assert type(response_error(code, 400, "")) is TransientError


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 501, 502, 503, 504, 599])
def test_status_that_time_heals_is_transient_whatever_the_code(status: int) -> None:
    assert type(response_error("Unheard", status, "")) is TransientError


def test_error_in_a_response_200_is_classified_by_its_code() -> None:
    assert type(response_error("InternalError", 200, "")) is TransientError
    assert type(response_error("AccessDenied", 200, "")) is PermanentError


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
def test_other_errors_are_permanent(code: str, status: int) -> None:
    assert type(response_error(code, status, "")) is PermanentError


def test_error_has_the_message_of_s3() -> None:
    error = response_error("SlowDown", 503, "Please reduce your request rate.")
    assert (error.code, error.message) == ("SlowDown", "Please reduce your request rate.")


@pytest.mark.parametrize(
    ("code", "status"), [("AccessDenied", 500), ("NoSuchBucket", 500), ("NotImplemented", 501)]
)
def test_code_is_permanent_whatever_the_status(code: str, status: int) -> None:
    assert type(response_error(code, status, "")) is PermanentError


@pytest.mark.parametrize(
    ("age", "kind"),
    [
        (None, PermanentError),
        (0.0, TransientError),
        (FRESH_SECONDS - 1.0, TransientError),
        (float(FRESH_SECONDS), PermanentError),
    ],
)
def test_refusal_passes_while_the_credentials_are_fresh(
    age: float | None, kind: type[Exception]
) -> None:
    error = refusal_of_credentials(PermanentError("InvalidAccessKeyId", "no"), age)
    assert (type(error), error.code, error.message) == (kind, "InvalidAccessKeyId", "no")
