"""What a request to S3 that failed means: botocore's and aiohttp's exceptions made ours.

botocore knows two kinds: `ClientError` when S3 answered, `BotoCoreError` when it did not. Which of
S3's own errors heal by time is `retries`'s to say.
"""

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
from stream_app.retries import classified

PRECONDITION_FAILED: Final = "PreconditionFailed"
NOT_FOUND: Final = frozenset({"404", "NoSuchKey"})
"""HeadObject has no body to name its error in; a missing right is 403."""
NO_SUCH_UPLOAD: Final = "NoSuchUpload"
NO_CREDENTIALS: Final = "NoCredentials"
UNREADABLE: Final = "UnreadableAnswer"
"""Our own code: something answered, and not as S3 does."""
CREDENTIALS_REFUSED: Final = frozenset(
    {
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        NO_CREDENTIALS,
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
MOVED: Final = frozenset(
    {
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "Redirect",
        "TemporaryRedirect",
    }
)
MISADDRESSED: Final = "AuthorizationHeaderMalformed"
"""Another region only if S3 names one."""
BAD_REQUEST: Final = 400
_REDIRECTS: Final = (301, 302, 307, 308)

TROUBLES: Final = (
    BotoCoreError,
    ClientError,
    ParseError,
    ResponseParserError,
    aiohttp.ClientError,
    OSError,  # TimeoutError is one
)
"""What a call of a client can raise, `delivery_error` takes each."""


def delivery_error(error: Exception, seconds_max: float) -> DeliveryError:
    """Return what one of `TROUBLES` means, to be raised from it.

    Args:
        error: What the call raised.
        seconds_max: How long it was waited for.
    """
    match error:
        case ClientError():
            details = error.response.get("Error", {})
            status = _status(error)
            # A proxy's page names no code.
            code = str(details.get("Code") or status)
            return classified(code, status, str(details.get("Message", error)))
        case NoCredentialsError():
            return TransientError(NO_CREDENTIALS, str(error))
        case ParamValidationError():
            return PermanentError("InvalidRequest", str(error))
        case ParseError() | ResponseParserError():
            # What was found there may be long, and begins on the second line.
            return TransientError(UNREADABLE, str(error).partition("\n")[0])
    # Refused, reset, hung, TLS, name resolution: botocore names each class.
    words = str(error) or f"no answer within {seconds_max:.3g} s"
    return TransientError(type(error).__name__, words)


def region_named(error: DeliveryError) -> tuple[bool, str | None]:
    """Return whether S3 says that a bucket is in another region, and which, if it names it."""
    cause = error.__cause__
    if not isinstance(cause, ClientError):
        return False, None
    headers: dict[str, str] = cause.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or cause.response.get("Error", {}).get("Region")
    status = _status(cause)
    if error.code in MOVED or status in _REDIRECTS:
        return True, region
    # HeadObject has no body: its 400 names no code, and the region only in a header.
    is_misaddressed = error.code == MISADDRESSED or error.code == str(BAD_REQUEST)
    return is_misaddressed and region is not None, region


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
