"""The configuration as the Inspector knows it: read at the start, and again when the file changes.

Only destinations change so: what else the file says holds from the start. A file with a mistake in
it is logged, and what was read before stays.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from stream_app.configfile import compile_payload, load, look_at
from stream_app.errors import ConfigurationError
from stream_app.expressions import Expression
from stream_app.settings import Destination, Settings

LOOK_SECONDS: Final = 2.0
"""How often the file is looked at."""
EXPRESSIONS_MAX: Final = 64
"""Expressions that are kept compiled, those that were used last."""


logger = logging.getLogger(__name__)


class Configured:
    """Settings and destinations.

    Args:
        path: The file.
        environment: The variables that override it.
        on_change: Is told when the destinations are others.

    Raises:
        ConfigurationError: The file cannot be read, or holds mistakes.
    """

    def __init__(
        self, path: str, environment: Mapping[str, str], on_change: Callable[[], None]
    ) -> None:
        self.path = path
        self._environment = environment
        self._on_change = on_change
        self._seen = look_at(self.path)
        self.settings = load(path, environment)
        self.destinations: Mapping[str, Destination] = _by_id(self.settings)
        self._compiled: dict[str, Expression] = {}

    @property
    def pipelines(self) -> dict[str, str | None]:
        """The destinations' pipelines, by id."""
        return {id_: it.pipeline for id_, it in self.destinations.items()}

    def of_bucket(self, bucket: str) -> Destination | None:
        """Return a destination that has this bucket, and so says how it is reached."""
        return next((it for it in self.destinations.values() if it.bucket == bucket), None)

    def expression(self, text: str) -> Expression:
        """Return an expression compiled; takes a moment, so not to be called in the loop.

        Raises:
            ConfigurationError: It does not compile.
        """
        compiled = self._compiled.pop(text, None) or compile_payload(text, "the expression")
        self._compiled[text] = compiled
        while len(self._compiled) > EXPRESSIONS_MAX:
            self._compiled.pop(next(iter(self._compiled)), None)
        return compiled

    async def run(self) -> None:
        """Follow the file for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            look = look_at(self.path)
            if look != self._seen:
                self._seen = look
                await self._reload()

    async def _reload(self) -> None:
        try:
            settings = await asyncio.to_thread(load, self.path, self._environment)
        except ConfigurationError as error:
            for mistake in error.mistakes:
                logger.error("not taken, what was read before stays: %s", mistake)  # noqa: TRY400
            return
        if settings.destinations != self.settings.destinations:
            self.settings = settings
            self.destinations = _by_id(settings)
            logger.info("%s: read again, %d destinations", self.path, len(self.destinations))
            self._on_change()


def _by_id(settings: Settings) -> dict[str, Destination]:
    return {it.id: it for it in settings.destinations}
