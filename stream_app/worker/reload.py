"""Reload: the destinations of a running worker follow its configuration files.

    files changed, or SIGHUP ─> read, compile ─┬─ valid ────> from each partition's next window on
                                              └─ invalid ──> every mistake is logged, no change

Only destinations can change. Other settings are read when a worker starts; a change of them is
logged, and otherwise ignored. On SIGHUP secrets are read again too: keys and certificates, which
are followed by `s3.credentials` and `kafka.tls`.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable

from stream_app import log_events
from stream_app.config.files import FILE_CHECK_SECONDS, ConfigSource
from stream_app.config.settings import TABLES, Settings
from stream_app.core.router import Router, compile_router
from stream_app.errors import ConfigurationError
from stream_app.logs import log_event
from stream_app.monitoring.reload_state import ReloadState
from stream_app.text import counted

logger = logging.getLogger(__name__)


class Reloader:
    """Reloader of the destinations of one worker.

    Args:
        source: Where the settings were read from; what has changed since is read at once.
        settings: The settings at the start.
        use: Takes other destinations.
        state: State of the configuration, for metrics.
        reread: Reads secrets again.
    """

    def __init__(
        self,
        source: ConfigSource,
        settings: Settings,
        use: Callable[[Router], None],
        state: ReloadState,
        *,
        reread: Callable[[], Awaitable[None]],
    ) -> None:
        self._source = source
        self._began_with = self._settings = settings
        self._use = use
        self._state = state
        self._reread = reread
        self._requested = asyncio.Event()

    async def run(self) -> None:
        """Check the files until cancelled."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._requested.set)
        while True:
            is_requested = self._requested.is_set()
            self._requested.clear()
            if is_requested:
                await self._reread()
            if is_requested or self._source.has_changed():
                await self._reload()
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(FILE_CHECK_SECONDS):
                await self._requested.wait()
        except TimeoutError:
            return

    async def _reload(self) -> None:
        try:
            # Thousands of expressions take seconds to compile, and the worker goes on meanwhile.
            settings, router = await asyncio.to_thread(self._read)
        except ConfigurationError as error:
            self._state.is_valid = False
            for mistake in error.mistakes:
                log_event(
                    logger,
                    log_events.RELOAD_FAILED,
                    mistake=mistake.partition("\n")[0],
                    config=self._began_with.name,
                )
            return
        changed = [
            name for name in TABLES if getattr(settings, name) != getattr(self._began_with, name)
        ]
        for name in changed:
            log_event(logger, log_events.NEEDS_RESTART, config=settings.name, table=name)
        state = self._state
        state.is_valid, state.needs_restart, state.succeeded_at = True, bool(changed), time.time()
        if router is None:
            log_event(logger, log_events.RELOAD_UNCHANGED, config=settings.name)
            return
        self._log_reloaded(settings)
        self._settings = settings
        state.destinations = len(settings.destinations)
        self._use(router)

    def _log_reloaded(self, settings: Settings) -> None:
        before = {it.id: it for it in self._settings.destinations}
        after = {it.id: it for it in settings.destinations}
        added, removed = (len(after.keys() - before.keys()), len(before.keys() - after.keys()))
        changed = sum(after[id_] != before[id_] for id_ in after.keys() & before.keys())
        log_event(
            logger,
            log_events.RELOADED,
            config=settings.name,
            destinations=len(after),
            counted=counted(len(after), "destination"),
            added=added,
            changed=changed,
            removed=removed,
        )

    def _read(self) -> tuple[Settings, Router | None]:
        """Return the settings, and the destinations compiled if they have changed."""
        settings = self._source.load()
        if settings.destinations == self._settings.destinations:
            return settings, None
        return settings, compile_router(settings)
