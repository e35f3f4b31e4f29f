"""Server-side encryption of stored objects, as S3 states it, against the one that was requested.

A server that ignores the header for encryption responds as to any upload, and the object is stored
without it. S3 names the encryption in the responses to PutObject and UploadPart; not every server
does so in those to the other requests of a multipart upload.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from stream_app import log_events
from stream_app.config.settings import DESTINATIONS_MAX, Destination
from stream_app.logs import log_event

NONE: Final = "none"
"""Encryption of a response that names none."""

logger = logging.getLogger(__name__)


def other_encryption(destination: Destination, response: Mapping[str, Any]) -> str | None:
    """Return the encryption that S3 states, if it is not the requested one, else None.

    Args:
        destination: The destination; without `sse` it requests nothing.
        response: S3's response to PutObject or UploadPart.
    """
    if destination.sse is None:
        return None
    stated = str(response.get("ServerSideEncryption") or NONE)
    if stated != destination.sse:
        return stated
    key, requested = response.get("SSEKMSKeyId"), destination.kms_key_id
    # S3 states a key by its ARN, whatever it was requested by; an alias cannot be compared.
    if key is None or requested is None or "alias/" in requested:
        return None
    is_same = str(key).rpartition("/")[2] == requested.rpartition("/")[2]
    return None if is_same else f"{stated} with the key {key}"


class EncryptionMonitor:
    """Objects that were stored without the requested encryption, counted and logged."""

    def __init__(self) -> None:
        self.objects = 0
        self._logged: dict[Destination, None] = {}

    def observe(self, destination: Destination, response: Mapping[str, Any]) -> None:
        """Compare S3's response with the request; log a difference once for these options."""
        stated = other_encryption(destination, response)
        if stated is None:
            return
        self.objects += 1
        if destination in self._logged:
            return
        self._logged[destination] = None
        if len(self._logged) > DESTINATIONS_MAX:
            del self._logged[next(iter(self._logged))]
        log_event(
            logger,
            log_events.NOT_ENCRYPTED,
            destination=destination.id,
            bucket=destination.bucket,
            requested_encryption=destination.sse,
            encryption=stated,
        )
