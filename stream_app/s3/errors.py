"""Classification of failed S3 requests: exceptions of botocore and aiohttp as `DeliveryError`.

botocore has two kinds: `ClientError` when S3 has responded, `BotoCoreError` when it has not. Codes
and statuses decide whether an error of S3 is transient.
"""

import re
from typing import Final
from xml.etree.ElementTree import ParseError

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError

from stream_app.errors import DeliveryError, PermanentError, TransientError

TRANSIENT_CODES: Final = frozenset(
    {
        "BadDigest",  # damaged on the way
        "ConditionalRequestConflict",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "TemporaryRedirect",  # the name of a fresh bucket is not known everywhere yet
        "Throttling",
        "ThrottlingException",
        "TokenRefreshRequired",
        "XAmzContentChecksumMismatch",  # damaged on the way, says MinIO
        "XAmzContentSHA256Mismatch",  # damaged on the way
    }
)
_DAMAGED: Final = ("BadRequest", "Value for x-amz-checksum-")
"""Code, and beginning of the message, of an upload that was damaged on the way, by S3Mock."""
PERMANENT_CODES: Final = frozenset({"AccessDenied", "NoSuchBucket", "NotImplemented"})
"""Codes that are permanent whatever the status: botocore makes a 500 of an error within a response
200, and a server that does not know a header of ours returns 501, now and later."""
TRANSIENT_STATUSES: Final = frozenset({408, 409, 425, 429})
SERVER_ERROR: Final = 500


PRECONDITION_FAILED: Final = "PreconditionFailed"
NOT_FOUND: Final = frozenset({"404", "NoSuchKey"})
"""HeadObject has no body with an error code; a missing right is 403."""
NO_SUCH_UPLOAD: Final = "NoSuchUpload"
OBJECT_VANISHED: Final = "ObjectVanished"
"""Our own code: an object was found under the key, and is not there any more."""
NO_CREDENTIALS: Final = "NoCredentials"
UNREADABLE: Final = "UnreadableAnswer"
"""Our own code: the response is not one of S3."""
UNTRUSTED: Final = "SSLError"
"""botocore's class for a certificate that is not trusted, and other failures of TLS."""
CREDENTIALS_REFUSED: Final = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        NO_CREDENTIALS,
        "NotSignedUp",  # s3s; at AWS, the account of the key
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "XAdminUserNotFound",  # versitygw
    }
)
NOT_THESE: Final = CREDENTIALS_REFUSED | {
    "ExpiredToken",
    "ExpiredTokenException",
    "TokenRefreshRequired",
    "Unauthorized",
}
"""Codes after which credentials are read again from their sources."""
FRESH_SECONDS: Final = 300
"""Age of renewed credentials up to which a refusal passes: a new key is not known everywhere at
once, and windows that have waited for it must not be given up at the first refusal."""
MOVED: Final = frozenset(
    {
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
    }
)
MISADDRESSED: Final = "AuthorizationHeaderMalformed"
"""The bucket is in another region only if the response names one."""
BAD_REQUEST: Final = 400
_PATH: Final = re.compile(r"(https?://[^/\s\"'?]+)[/?][^\s\"']*")
"""A URL with its path, as botocore's errors name the request."""
_REDIRECTS: Final = (301, 302, 307, 308)

REQUEST_ERRORS: Final = (
    BotoCoreError,
    ClientError,
    ParseError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,  # TimeoutError is one
)
"""Exceptions of a client's call; `delivery_error` classifies each."""


def delivery_error(error: Exception, seconds_max: float) -> DeliveryError:
    """Return one of `REQUEST_ERRORS` as an error of ours, to be raised from it.

    Args:
        error: The exception of the call.
        seconds_max: The timeout of the call.
    """
    match error:
        case ClientError():
            details = error.response.get("Error", {})
            status = _status(error)
            # A proxy's page has no code.
            code = str(details.get("Code") or status)
            return response_error(code, status, str(details.get("Message", error)))
        case NoCredentialsError():
            return TransientError(NO_CREDENTIALS, str(error))
        case ParamValidationError():
            return PermanentError("InvalidRequest", str(error))
        case ParseError() | ResponseParserError():
            # The content follows on the second line, and may be long.
            return TransientError(UNREADABLE, str(error).partition("\n")[0])
    # Refused, reset, timed out, TLS, name resolution: botocore has a class for each, and names the
    # whole URL. The message is about the server, and other windows than this one wait for it.
    message = _PATH.sub(r"\1", str(error)) or f"no response within {seconds_max:.3g} s"
    return TransientError(type(error).__name__, message)


def refusal_of_credentials(error: DeliveryError, age: float | None) -> DeliveryError:
    """Return the refusal of credentials as an error to retry by.

    Args:
        error: One of the codes `NOT_THESE`.
        age: Seconds since they were renewed; None: they are those of the start.
    """
    if age is not None and age < FRESH_SECONDS:
        return TransientError(error.code, error.message)
    return error


def other_region(error: DeliveryError) -> tuple[bool, str | None]:
    """Return whether the bucket is in another region by S3's response, and its name if given."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return False, None
    headers: dict[str, str] = cause.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or cause.response.get("Error", {}).get("Region")
    status = _status(cause)
    if error.code in MOVED or status in _REDIRECTS:
        return True, region
    # HeadObject has no body: its 400 has no code, and the region only in a header.
    is_misaddressed = error.code == MISADDRESSED or error.code == str(BAD_REQUEST)
    return is_misaddressed and region is not None, region


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def response_error(code: str, status: int, message: str) -> DeliveryError:
    """Return an error response of S3 as a transient or a permanent error.

    Args:
        code: S3's error code, as in the body of the response.
        status: The HTTP status; 200 too can carry an error.
        message: S3's error message.
    """
    if code in PERMANENT_CODES:
        return PermanentError(code, message)
    if code == _DAMAGED[0] and message.startswith(_DAMAGED[1]):
        return TransientError(code, message)
    if code in TRANSIENT_CODES or status in TRANSIENT_STATUSES or status >= SERVER_ERROR:
        return TransientError(code, message)
    return PermanentError(code, message)
