"""TLS to the brokers: a context whose files are read again when they were renewed in place.

    connection ─> handshake ─> have the files changed? ─┬─ no ────> the context as before
                                                        └─ yes ─┬─ valid ────> a new context
                                                                └─ unusable ─> the context as before

Each new connection of each client goes that way, so that certificates and authorities can be
exchanged while programs run; connections that exist go on. A new pair is complete before it is
used: a certificate that was written before its key breaks nothing.
"""

import logging
import os
import socket
import ssl
import threading
from typing import Any, Self

from stream_app import log_events
from stream_app.config.files import FileVersion, file_version
from stream_app.config.settings import Kafka
from stream_app.errors import SetupError
from stream_app.logs import log_event

logger = logging.getLogger(__name__)


class RenewedContext(ssl.SSLContext):
    """TLS context of clients, which follows the files that are named in `[kafka]`.

    Every handshake is made by a context that has been read completely from the files. This one has
    no authorities, and so would trust nobody by itself. Threads may share it.

    Args:
        kafka: The connection, with `ssl` or `sasl_ssl`.

    Raises:
        SetupError: A file cannot be read, or is not of the right kind.
    """

    def __new__(cls, kafka: Kafka) -> Self:
        """Return a context that verifies servers."""
        del kafka
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._reading = threading.Lock()
        self._seen = _versions(kafka)
        self._context = _context(kafka)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:  # noqa: ANN401 - passed on
        """Begin a handshake with what the files have now."""
        with self._reading:
            versions = _versions(self._kafka)
            if versions != self._seen:
                self._read(versions)
            context = self._context
        return context.wrap_bio(*args, **options)

    def reread(self) -> None:
        """Read the files again, whether they have changed or not; an error is logged."""
        with self._reading:
            self._read(_versions(self._kafka))

    def _read(self, versions: dict[str, FileVersion]) -> None:
        self._seen = versions  # of before: a change from now on leads to a further reading
        files = ", ".join(versions)
        try:
            self._context = _context(self._kafka)
        except SetupError as error:
            log_event(logger, log_events.CERTIFICATES_KEPT, error=str(error))
        else:
            log_event(logger, log_events.CERTIFICATES_READ, files=files)


def _versions(kafka: Kafka) -> dict[str, FileVersion]:
    """Return the versions of the files that the context is read from, by path."""
    authorities = kafka.ssl_ca_file or ssl.get_default_verify_paths().cafile
    paths = (authorities, kafka.ssl_certificate_file, kafka.ssl_key_file)
    return {path: file_version(path) for path in paths if path is not None}


def _context(kafka: Kafka) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_file)
    except OSError as error:
        raise SetupError(
            f"[kafka] ssl_ca_file '{kafka.ssl_ca_file}' cannot be used: {reason(error)}; write "
            "the name of a PEM file with certificates"
        ) from error
    if kafka.ssl_certificate_file is not None and kafka.ssl_key_file is not None:
        try:
            # Without a password argument OpenSSL would prompt for one on the terminal.
            context.load_cert_chain(kafka.ssl_certificate_file, kafka.ssl_key_file, password="")
        except OSError as error:
            raise SetupError(
                f"[kafka] ssl_certificate_file '{kafka.ssl_certificate_file}' with ssl_key_file "
                f"'{kafka.ssl_key_file}' cannot be used: {reason(error)}; write the names of two "
                "PEM files, a certificate and its unencrypted key"
            ) from error
    return context


def ssl_context(kafka: Kafka) -> RenewedContext | None:
    """Return the TLS context for the brokers' certificates and ours; None without encryption.

    Raises:
        SetupError: A file cannot be read, or is not of the right kind.
    """
    return RenewedContext(kafka) if kafka.security_protocol.endswith("ssl") else None


def reason(error: BaseException) -> str:
    """Return the text of an error on one line, or its type where it has no text."""
    text = str(error)
    if isinstance(error, TimeoutError) and not text:
        text = "timed out"
    if isinstance(error, ssl.SSLError | socket.gaierror):
        text = error.strerror or text
    elif isinstance(error, OSError) and error.errno is not None:
        # asyncio replaces the system's text by its own.
        text = os.strerror(error.errno)
    return " ".join(text.split()) or type(error).__name__
