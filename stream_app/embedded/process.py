"""A server program that does not outlive the process that started it.

**No server outlives its parent**, also when that is killed with -9. A server runs in the process
group of a watcher, a shell that reads a pipe held open by this process alone; when the pipe
closes, for whatever reason, the watcher kills its group:

    this process ──pipe──> watcher (leads the group) ──kill -9──> the group: server, watcher

The group is joined before the server's program starts, so no moment is unguarded, and no process
id is remembered that could be another's by then. Linux' PR_SET_PDEATHSIG would follow the
*thread* that started the server, so one started by a worker thread would die with that thread;
and setting it needs `preexec_fn`, which can deadlock in a process with threads. What holds the
pipe open longer is a child made by a bare `os.fork()`: it inherits the pipe.
"""

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from stream_app.errors import SetupError

HOST: Final = "127.0.0.1"
PORTS: Final = range(20_000, 32_000)
"""Free ports come from below every system's range for outgoing connections: a client that
reconnects to a stopped server from that range can connect to itself and hold the port."""

START_SECONDS_MAX: Final = 90.0
STOP_SECONDS_MAX: Final = 20.0
POLL_SECONDS: Final = 0.05
PROBE_SECONDS_MAX: Final = 2.0
LOG_LINES_SHOWN: Final = 20


def free_ports(count: int) -> list[int]:
    """`count` different ports of 127.0.0.1 on which nothing listens now."""
    shuffled = random.SystemRandom().sample(PORTS, len(PORTS))
    ports = list(itertools.islice((port for port in shuffled if not _taken(port)), count))
    if len(ports) < count:
        raise SetupError(
            f"{HOST}: {len(ports)} ports of {PORTS.start}..{PORTS.stop - 1} are free and {count} "
            "are needed; end what listens there"
        )
    return ports


class Server(ABC):
    """One server program: its folder, its process, its watcher."""

    _name: str
    """As it stands in messages and in names of files."""
    _stop_seconds_max = STOP_SECONDS_MAX

    def __init__(self, folder: Path | None) -> None:
        self._temporary = folder is None
        self.folder = (
            Path(tempfile.gettempdir()) / f"stream-app-{self._name}-{uuid4().hex[:12]}"
            if folder is None
            else folder.absolute()
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def _ports(self) -> Sequence[int]:
        """Every port that the server will listen on."""

    @abstractmethod
    def _prepare(self) -> None:
        """Write what the server needs into its folder; called before each start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server did, just now, what its clients will ask of it."""

    @property
    def log(self) -> Path:
        """What the server printed, over all its starts."""
        return self.folder / f"{self._name}.log"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    def start(self) -> None:
        """Start the server and return once it answers.

        Raises:
            SetupError: a package is missing, a port is taken, or the server ended or did not
                answer within START_SECONDS_MAX; then nothing runs, and the folder stays.
        """
        if self._process is not None and self._process.poll() is None:
            raise SetupError(f"{self._name} is started already, in {self.folder}; stop it first")
        self.kill()  # a server that ended by itself left its watcher
        if occupied := [port for port in self._ports if _taken(port)]:
            raise SetupError(
                f"{self._name}: port {occupied[0]} of {HOST} is taken; "
                "give another one, or none for a free one"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._prepare()
            self._launch(self._command())
            self._await_answer()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask the server to end, insist after a bound; remove a temporary folder."""
        self._end(signal.SIGTERM)
        if self._temporary and self.folder.exists():
            shutil.rmtree(self.folder)

    def kill(self) -> None:
        """End the server as a crash would, with SIGKILL; folder and port stay for `start`."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server and start it again, with the same folder and the same ports."""
        self._end(signal.SIGTERM)
        self.start()

    def pause(self) -> None:
        """Freeze the server with SIGSTOP: connections stay open, and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc, Exception):
            # Something failed meanwhile: data and log may tell why, so the folder stays.
            self._end(signal.SIGTERM)
        else:
            self.stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise SetupError(f"{self._name} in {self.folder} is not running; start it first")
        return self._process

    def _launch(self, command: Sequence[str]) -> None:
        """Start the watcher, and the server in its group (see the module's docstring)."""
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", "read -r _; kill -9 0"], stdin=subprocess.PIPE, process_group=0
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                command,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=self._watcher.pid,
            )

    def _environment(self) -> dict[str, str]:
        # Nearly empty: both programs take options from variables and from files at home.
        return {"PATH": os.defpath, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    def _await_answer(self) -> None:
        def answers_or_ended() -> bool:
            return self._process is None or self._process.poll() is not None or self._answers()

        if not becomes_true(answers_or_ended, START_SECONDS_MAX):
            raise SetupError(self._failure(f"did not answer within {START_SECONDS_MAX:.0f} s"))
        if self._process is None or self._process.poll() is not None:
            raise SetupError(self._failure("ended while starting"))

    def _failure(self, what: str) -> str:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n    ".join([f"{self._name} {what}; its log {self.log} ends with:", *lines])

    def _end(self, how: signal.Signals) -> None:
        """Signal the server, wait for it, and let the watcher kill whatever is left."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)  # a paused server acts on no SIGTERM
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_seconds_max)
        if self._watcher is not None and self._watcher.stdin is not None:
            self._watcher.stdin.close()
            self._watcher.wait(STOP_SECONDS_MAX)
        if self._process is not None:
            self._process.wait(STOP_SECONDS_MAX)
        self._process = self._watcher = None


def becomes_true(condition: Callable[[], bool], seconds_max: float) -> bool:
    """Ask until the condition holds; False when it does not within `seconds_max`."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _taken(port: int) -> bool:
    """Whether something listens on the port; a connection that is only closing does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
