"""Token for a login to Amazon MSK by IAM: a presigned URL that nobody requests.

    credentials ─[role]─> SigV4 over GET https://kafka.REGION.amazonaws.com/?Action=... ─> base64url

The broker checks the signature, and whether the identity may `kafka-cluster:Connect`. The module is
here because AWS credentials and signatures are. Credentials are found anew for each token, so that
keys that were renewed are used. Blocking: it runs in a thread.
"""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import botocore.session
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from stream_app import __version__
from stream_app.errors import SetupError

TOKEN_SECONDS: Final = 900
"""Life of a token: the longest that MSK accepts."""
SESSION_NAME: Final = "stream-app"
"""Name of the session in CloudTrail and in the assumed role's ARN."""
_SERVICE: Final = "kafka-cluster"
_ACTION: Final = "kafka-cluster:Connect"
_ADVICE: Final = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role"


def iam_token(region: str, role_arn: str | None, seconds_max: float) -> tuple[str, float]:
    """Return a new token, and for how many seconds it is valid.

    Args:
        region: The cluster's region.
        role_arn: The role to assume; None: the program's own credentials are used.
        seconds_max: Timeout for connecting to STS, and for its response.

    Raises:
        SetupError: There are no credentials, or none for the role; one line.
    """
    session = botocore.session.Session()
    try:
        if role_arn is None:
            credentials = session.get_credentials()
            if credentials is None:
                raise SetupError(f"there are no AWS credentials for the login to Kafka; {_ADVICE}")
            frozen = credentials.get_frozen_credentials()
            ends_at = getattr(credentials, "_expiry_time", None)
        else:
            frozen, ends_at = _assumed(session, region, role_arn, seconds_max)
    except (BotoCoreError, ClientError, OSError, ValueError, RuntimeError) as error:
        what = "the AWS credentials" if role_arn is None else f"role {role_arn}"
        message = " ".join(str(error).split()) or type(error).__name__
        raise SetupError(
            f"{what} cannot be used for the login to Kafka: {message}; "
            + (_ADVICE if role_arn is None else "let its trust policy allow sts:AssumeRole")
        ) from error
    left = TOKEN_SECONDS if ends_at is None else (ends_at - datetime.now(UTC)).total_seconds()
    if left <= 0:
        raise SetupError(
            "the AWS credentials for the login to Kafka have expired already; renew them, or set "
            "this machine's clock"
        )
    return presigned_token(frozen, region), min(TOKEN_SECONDS, left)


def presigned_token(credentials: Any, region: str) -> str:  # noqa: ANN401 - botocore's
    """Return a token that these credentials have signed, for a cluster in this region."""
    request = AWSRequest(
        "GET", url=f"https://kafka.{region}.amazonaws.com/", params={"Action": _ACTION}
    )
    SigV4QueryAuth(credentials, _SERVICE, region, expires=TOKEN_SECONDS).add_auth(request)
    agent = quote(f"stream-app/{__version__}", safe="")  # not signed; for AWS's records
    return urlsafe_b64encode(f"{request.url}&User-Agent={agent}".encode()).decode().rstrip("=")


def _assumed(
    session: Any,  # noqa: ANN401 - botocore's
    region: str,
    role_arn: str,
    seconds_max: float,
) -> tuple[Credentials, datetime]:
    """Return credentials of a role, and when they end."""
    config = Config(
        connect_timeout=seconds_max,
        read_timeout=seconds_max,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    client = session.create_client("sts", region_name=region, config=config)
    try:
        found = client.assume_role(RoleArn=role_arn, RoleSessionName=SESSION_NAME)["Credentials"]
    finally:
        client.close()
    keys = (found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
    return Credentials(*keys), found["Expiration"]
