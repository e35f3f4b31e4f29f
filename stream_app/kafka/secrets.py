"""Secrets of the connection to Kafka: settings, or files that are read again when they change.

    client is made ──────> secret() ─────────────> the setting, or what its file has now
    client that lives ───> RenewedPassword ─┬────> another password in the file: given to the client
                                            └────> unusable: the one before stays, and is logged

Connections that exist go on; new ones of the same client log in with the newer password.
"""

import logging
from pathlib import Path
from typing import Any, Final

from stream_app import log_events
from stream_app.config.files import file_version
from stream_app.config.settings import Kafka, secret_file_key
from stream_app.config.validators import NAME
from stream_app.errors import SetupError
from stream_app.logs import log_event

PASSWORD: Final = "sasl_password"  # noqa: S105 - a setting's name
SECRET_BYTES_MAX: Final = 64 * 1024
"""Far more than any password or token has: a file of another kind was named by mistake."""

logger = logging.getLogger(__name__)


def secret(kafka: Kafka, key: str) -> str | None:
    """Return a secret setting, from its file if one is named.

    Args:
        kafka: The connection.
        key: The setting, such as `sasl_password`.

    Raises:
        SetupError: The file does not hold a secret; the text never has its content.
    """
    path: str | None = getattr(kafka, secret_file_key(key))
    if path is None:
        value: str | None = getattr(kafka, key)
        return value
    try:
        with Path(path).open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
        return _text(content)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SetupError(
            f"[kafka] {secret_file_key(key)} '{path}' cannot be used: {reason}; write the name of "
            "a file that has the secret, on one line, and nothing else"
        ) from None


def _text(content: bytes) -> str:
    """Return the secret in a file's content; raise ValueError if there is none."""
    if len(content) > SECRET_BYTES_MAX:
        raise ValueError(f"it has more than {SECRET_BYTES_MAX} bytes")
    # Editors and `echo` end a file with a line end, which is no part of a secret.
    text = content.decode(errors="replace").rstrip("\r\n")
    if "\ufffd" in text:
        raise ValueError("it is not UTF-8")
    if not NAME.is_valid(text):
        raise ValueError("it has control characters" if text else "it is empty")
    return text


class RenewedPassword:
    """Password of clients that live long, which follows its file.

    Args:
        kafka: The connection.
    """

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._path: str | None = getattr(kafka, secret_file_key(PASSWORD))
        self._seen = self._version()

    def renewed(self) -> str | None:
        """Return the password if its file has changed since the last call; None: it has not.

        An unusable file is logged, and its change is not returned.
        """
        version = self._version()
        if version == self._seen:
            return None
        self._seen = version  # of before: a change from now on leads to a further reading
        try:
            password = secret(self._kafka, PASSWORD)
        except SetupError as error:
            log_event(logger, log_events.SECRET_KEPT, error=str(error))
            return None
        log_event(logger, log_events.SECRET_READ, files=self._path)
        return password

    def _version(self) -> object:
        return None if self._path is None else file_version(self._path)


def use_password(client: Any, password: str) -> None:  # noqa: ANN401 - aiokafka's, without types
    """Let further connections of a client of aiokafka log in with this password."""
    client._sasl_plain_password = password  # noqa: SLF001 - read for each new connection
