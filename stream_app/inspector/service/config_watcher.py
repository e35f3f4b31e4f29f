"""The Inspector's configuration, read at the start and again when its files change.

A change applies to the destinations only; other settings need a restart. What the workers do not
take is not taken here either: its mistakes are logged and shown on the page, and the previous
configuration stays in effect.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from stream_app.config.files import FILE_CHECK_SECONDS, ConfigSource
from stream_app.config.settings import Destination, Settings
from stream_app.core.router import compile_payload, compile_router
from stream_app.errors import ConfigurationError
from stream_app.expressions.expression import Expression

COMPILED_EXPRESSIONS_MAX: Final = 64
"""Compiled expressions that are cached; the least recently used is evicted first."""

logger = logging.getLogger(__name__)


class ConfigWatcher:
    """Current settings, destinations and compiled expressions.

    Args:
        path: Name of the configuration file.
        environment: Environment variables, which override the file.
        on_change: Called after the destinations changed.

    Raises:
        ConfigurationError: The file cannot be read, or has mistakes.
    """

    def __init__(
        self, path: str, environment: Mapping[str, str], on_change: Callable[[], None]
    ) -> None:
        self._source = ConfigSource(path, environment)
        self._on_change = on_change
        self.settings = self._source.load()
        self.taken_at = time.time()
        """When the files as they are now were taken, in seconds since 1970."""
        self.destinations: Mapping[str, Destination] = _by_id(self.settings)
        self.mistakes: tuple[str, ...] = ()
        """Why the files as they are now are not taken; none if they are."""
        self._compiled: dict[str, Expression] = {}

    @property
    def pipelines(self) -> dict[str, str | None]:
        """Pipelines of the destinations, by id."""
        return {id_: it.pipeline for id_, it in self.destinations.items()}

    def destination_for(self, bucket: str) -> Destination | None:
        """Return a destination with this bucket, as access to the bucket depends on its options."""
        return next((it for it in self.destinations.values() if it.bucket == bucket), None)

    def expression(self, text: str) -> Expression:
        """Return a compiled expression; blocks, so call it in a thread.

        Raises:
            ConfigurationError: The expression does not compile.
        """
        compiled = self._compiled.pop(text, None) or compile_payload(text, "the expression")
        self._compiled[text] = compiled
        while len(self._compiled) > COMPILED_EXPRESSIONS_MAX:
            self._compiled.pop(next(iter(self._compiled)), None)
        return compiled

    async def run(self) -> None:
        """Reload the files on every change, forever."""
        while True:
            await asyncio.sleep(FILE_CHECK_SECONDS)
            if self._source.has_changed():
                await self._reload()

    async def _reload(self) -> None:
        try:
            settings = await asyncio.to_thread(self._read)
        except ConfigurationError as error:
            self.mistakes = tuple(mistake.partition("\n")[0] for mistake in error.mistakes)
            for mistake in self.mistakes:
                logger.error("configuration not reloaded, the previous one stays: %s", mistake)  # noqa: TRY400
            return
        self.mistakes = ()
        self.taken_at = time.time()
        if settings.destinations != self.settings.destinations:
            self.settings = settings
            self.destinations = _by_id(settings)
            logger.info("%s: reloaded, %d destinations", settings.name, len(self.destinations))
            self._on_change()

    def _read(self) -> Settings:
        """Return the settings of the files; blocks while changed expressions are compiled."""
        settings = self._source.load()
        if settings.destinations != self.settings.destinations:
            compile_router(settings)
        return settings


def _by_id(settings: Settings) -> dict[str, Destination]:
    return {it.id: it for it in settings.destinations}
