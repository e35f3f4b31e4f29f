"""Token server of OpenID Connect: one request for a token, by the client credentials grant.

Blocking: it runs in a thread, and in an event loop of its own, so that clients in several loops can
share a token. Files of the secret and of authorities are read for each request. A redirect is not
followed: the secret goes to the configured address only.
"""

import asyncio
import ssl
import time
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.kafka.login_tokens import (
    CLIENT_SECRET,
    RESPONSE_BYTES_MAX,
    LoginToken,
    oidc_request,
    oidc_token,
)
from stream_app.kafka.secrets import secret
from stream_app.kafka.tls import reason


def request_token(kafka: Kafka, seconds_max: float) -> LoginToken:
    """Return a new token.

    Args:
        kafka: The connection, with `sasl_token_provider = "oidc"`.
        seconds_max: Timeout of the request.

    Raises:
        SetupError: There is none; one line, without the secret.
    """
    requested_at = time.monotonic()
    status, body = asyncio.run(_post(kafka, seconds_max))
    return oidc_token(kafka, status, body, requested_at)


async def _post(kafka: Kafka, seconds_max: float) -> tuple[int, bytes]:
    form, authorization = oidc_request(kafka, secret(kafka, CLIENT_SECRET) or "")
    url = kafka.sasl_oidc_token_url or ""
    where = f"token server {url}"
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=seconds_max),
                auto_decompress=False,
                connector=aiohttp.TCPConnector(ssl=_tls(kafka)),
            ) as session,
            session.post(
                url,
                data=form,
                headers={
                    "Authorization": authorization,
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                },
                allow_redirects=False,
                proxy=_proxy(url),
            ) as response,
        ):
            body = b""
            while len(body) <= RESPONSE_BYTES_MAX and (
                chunk := await response.content.read(RESPONSE_BYTES_MAX + 1 - len(body))
            ):
                body += chunk
            return response.status, body
    except aiohttp.ClientConnectorCertificateError as error:
        raise SetupError(
            f"{where} shows a certificate that is not trusted: {_problem(error)}; set [kafka] "
            "sasl_oidc_ca_file to the authority that signed it"
        ) from error
    except (aiohttp.ClientError, OSError) as error:  # also a timeout
        raise SetupError(
            f"{where} does not respond ({_problem(error)}); is it running? Set [kafka] "
            "sasl_oidc_token_url to its token endpoint"
        ) from error


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for this address.

    aiohttp would read it by itself, but then prefers a login from ~/.netrc.
    """
    parts = urlsplit(url)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)


def _tls(kafka: Kafka) -> ssl.SSLContext:
    """Return the context that verifies the server."""
    try:
        return ssl.create_default_context(cafile=kafka.sasl_oidc_ca_file)
    except OSError as error:
        raise SetupError(
            f"[kafka] sasl_oidc_ca_file '{kafka.sasl_oidc_ca_file}' cannot be used: "
            f"{reason(error)}; write the name of a PEM file with certificates"
        ) from error


def _problem(error: Exception) -> str:
    """Return the reason below an error of aiohttp, which names host and port again."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            below = error.certificate_error
            return getattr(below, "verify_message", "") or reason(below)
        case aiohttp.ClientConnectorError():
            return reason(error.os_error)
        case _:
            return reason(error)
