"""Reload: the destinations of a running worker follow its configuration files.

    files changed, or SIGHUP ─> read, compile ─┬─ valid ────> from each partition's next window on
                                              └─ invalid ──> every mistake is logged, no change

Only destinations can change. Other settings are read when a worker starts; a change of them is
logged, and otherwise ignored. Of `destinations_dir` only files that have changed are parsed, and
only new expressions are compiled. On SIGHUP all files are parsed, and secrets are read again too:
keys and certificates, which are followed by `s3.credentials` and `kafka.tls`.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from stream_app import log_events
from stream_app.config.files import FILE_CHECK_SECONDS, ConfigSource
from stream_app.config.settings import TABLES, Destination, Settings
from stream_app.core.router import Router, compile_router
from stream_app.errors import ConfigurationError
from stream_app.logs import log_event
from stream_app.monitoring.reload_state import ReloadState
from stream_app.text import counted

logger = logging.getLogger(__name__)


class _Change(NamedTuple):
    """Change of the destinations."""

    router: Router
    added: int
    changed: int
    removed: int


class Reloader:
    """Reloader of the destinations of one worker.

    Args:
        source: Where the settings were read from; what has changed since is read at once.
        settings: The settings at the start.
        router: Their destinations, compiled.
        use: Takes other destinations.
        state: State of the configuration, for metrics.
        reread: Reads secrets again.
    """

    def __init__(
        self,
        source: ConfigSource,
        settings: Settings,
        router: Router,
        use: Callable[[Router], None],
        state: ReloadState,
        *,
        reread: Callable[[], Awaitable[None]],
    ) -> None:
        self._source = source
        self._began_with = self._settings = settings
        self._router = router
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
                await self._reload(whole=is_requested)
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(FILE_CHECK_SECONDS):
                await self._requested.wait()
        except TimeoutError:
            return

    async def _reload(self, *, whole: bool) -> None:
        try:
            # Thousands of expressions take seconds to compile, and the worker goes on meanwhile.
            settings, change = await asyncio.to_thread(self._read, whole=whole)
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
        if change is None:
            log_event(logger, log_events.RELOAD_UNCHANGED, config=settings.name)
            return
        count = len(settings.destinations)
        log_event(
            logger,
            log_events.RELOADED,
            config=settings.name,
            destinations=count,
            counted=counted(count, "destination"),
            added=change.added,
            changed=change.changed,
            removed=change.removed,
        )
        self._settings, self._router = settings, change.router
        state.destinations = count
        self._use(change.router)

    def _read(self, *, whole: bool) -> tuple[Settings, _Change | None]:
        """Return the settings, and the change of the destinations, if there is one."""
        settings = self._source.load(whole=whole)
        before, after = self._settings.destinations, settings.destinations
        if before == after:
            return settings, None
        router = compile_router(settings, self._router)
        # Destinations that have not changed are the same objects.
        gone, new = (
            {it.id: it for it in _others(*both)} for both in ((before, after), (after, before))
        )
        changed = sum(gone[id_] != new[id_] for id_ in gone.keys() & new.keys())
        return settings, _Change(
            router, len(new.keys() - gone.keys()), changed, len(gone.keys() - new.keys())
        )


def _others(these: Iterable[Destination], known: Iterable[Destination]) -> list[Destination]:
    """Return those of these destinations that are other objects than the known ones."""
    ids = set(map(id, known))
    return [it for it in these if id(it) not in ids]
