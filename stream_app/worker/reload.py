"""Following the configuration file: the destinations of a running worker change with it.

    file changed, or SIGHUP ─> read, compile ─┬─ right ──> each partition's next window has it
                                              └─ wrong ──> logged line by line; the old ones stay

Only destinations can change. What else the file says is read when a worker starts; a change of that
is logged, and otherwise ignored.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Final

from stream_app import happenings
from stream_app.batches import Program
from stream_app.configfile import compile_program, load, look_at
from stream_app.errors import ConfigurationError
from stream_app.logs import say
from stream_app.metrics import ReloadState
from stream_app.settings import Settings

LOOK_SECONDS: Final = 2.0
"""How often the file is looked at."""


logger = logging.getLogger(__name__)


class Reloader:
    """Keeps a worker's destinations those of its configuration file.

    Args:
        path: The file.
        environment: The variables that override it.
        settings: Those that the worker began with.
        use: Takes other destinations.
        state: What came of the file, for those who watch.
    """

    def __init__(
        self,
        path: str,
        environment: Mapping[str, str],
        settings: Settings,
        use: Callable[[Program], None],
        state: ReloadState,
    ) -> None:
        self._path = path
        self._environment = environment
        self._began_with = self._settings = settings
        self._use = use
        self._state = state
        self._asked = asyncio.Event()
        self._seen = look_at(self._path)

    async def run(self) -> None:
        """Follow the file for ever."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._asked.set)
        while True:
            await self._wait()
            look = look_at(self._path)
            if self._asked.is_set() or look != self._seen:
                self._asked.clear()
                self._seen = look
                await self._reload()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._asked.wait()
        except TimeoutError:
            return

    async def _reload(self) -> None:
        try:
            # Thousands of expressions take seconds to compile, and the worker goes on meanwhile.
            settings, program = await asyncio.to_thread(self._read)
        except ConfigurationError as error:
            self._state.is_right = False
            for mistake in error.mistakes:
                first_line = mistake.partition("\n")[0]
                say(
                    *(logger, happenings.NOT_RELOADED),
                    *("not taken, the old destinations stay: %s", first_line),
                    config=self._path,
                )
            return
        changed = [
            name
            for name in (field.name for field in fields(Settings) if field.name != "destinations")
            if getattr(settings, name) != getattr(self._began_with, name)
        ]
        for name in changed:
            say(
                *(logger, happenings.NEEDS_RESTART),
                "%s: [%s] has changed; restart the worker to use it",
                *(self._path, name),
                config=self._path,
                table=name,
            )
        state = self._state
        state.is_right, state.needs_restart, state.taken_at = True, bool(changed), time.time()
        if settings.destinations == self._settings.destinations:
            say(
                *(logger, happenings.NOT_CHANGED),
                *("%s: the destinations have not changed", self._path),
                config=self._path,
            )
            return
        self._say_taken(settings)
        self._settings = settings
        state.destinations = len(settings.destinations)
        self._use(program)

    def _say_taken(self, settings: Settings) -> None:
        before = {it.id: it for it in self._settings.destinations}
        after = {it.id: it for it in settings.destinations}
        added, removed = (len(after.keys() - before.keys()), len(before.keys() - after.keys()))
        changed = sum(after[id_] != before[id_] for id_ in after.keys() & before.keys())
        say(
            *(logger, happenings.RELOADED),
            "%s: from the next windows on %d destinations: %d added, %d changed, %d removed",
            *(self._path, len(after), added, changed, removed),
            config=self._path,
            destinations=len(after),
            added=added,
            changed=changed,
            removed=removed,
        )

    def _read(self) -> tuple[Settings, Program]:
        settings = load(self._path, self._environment)
        return settings, compile_program(settings, self._path)
