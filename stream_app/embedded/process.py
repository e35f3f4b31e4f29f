"""Server process that does not outlive the process that started it.

**No server outlives its parent**, even a parent that is killed with -9. A server runs in the
process group of a watcher, a shell that reads a pipe held open by this process alone; when the pipe
closes, for whatever reason, the watcher kills its group:

    this process ──pipe──> watcher (leads the group) ──kill -9──> the group: server, watcher

The server joins the group before its program starts, so it is never without the watcher, and no
process id is kept that could belong to another process later. Linux' PR_SET_PDEATHSIG would follow
the *thread* that started the server, so a server started by a worker thread would die with that
thread; and setting it needs `preexec_fn`, which can deadlock in a process with threads. A child
made by a bare `os.fork()` inherits the pipe and keeps it open.
"""

import contextlib
import fcntl
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
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
"""Ports below every system's range for outgoing connections: a client that reconnects to a stopped
server from that range can connect to itself and occupy the port."""

START_SECONDS_MAX: Final = 180.0
STOP_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.05
PROBE_SECONDS_MAX: Final = 10.0
LOG_LINES_SHOWN: Final = 20


def cache_folder() -> Path:
    """Return the folder of this program in the user's cache; create it if it is missing."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stream-app"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def free_ports(count: int) -> list[int]:
    """Return `count` ports of 127.0.0.1 on which nothing listens, reserved for this process.

    A server binds its port seconds after the port was found free. Until this process ends, no
    other call returns the port, in this process or in another one of the same user.

    Raises:
        SetupError: Fewer than `count` ports are free.
    """
    shuffled = random.SystemRandom().sample(PORTS, len(PORTS))
    free = (port for port in shuffled if not _taken(port) and _reservations.reserve(port))
    ports = list(itertools.islice(free, count))
    if len(ports) < count:
        raise SetupError(
            f"{HOST}: {len(ports)} ports of {PORTS.start}..{PORTS.stop - 1} are free and {count} "
            "are needed; stop programs that listen there"
        )
    return ports


class _Reservations:
    """Ports handed out by the processes of one user: locked bytes of one file.

    The system releases the locks of a process that ends, however it ends.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._ports: set[int] = set()
        self._file: int | None = None

    def reserve(self, port: int) -> bool:
        """Reserve the port for this process; return False if it is reserved already."""
        with self._mutex:
            if port in self._ports:
                return False
            if self._file is None:
                path = cache_folder() / "ports"
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            except OSError:
                return False
            self._ports.add(port)
            return True


_reservations: Final = _Reservations()


class Server(ABC):
    """Server program with its folder, its process and its watcher; a context manager.

    Args:
        folder: Folder for data and log; None: a temporary one.
    """

    _name: str
    """Name in messages and in names of files."""
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
        """All ports that the server will listen on."""

    @abstractmethod
    def _prepare(self) -> None:
        """Write configuration and data that the server needs; called before each start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the program and its arguments."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Return whether the server responds now to requests as clients will send them."""

    @property
    def log(self) -> Path:
        """Output of the server, of all its starts."""
        return self.folder / f"{self._name}.log"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    def start(self) -> None:
        """Start the server and return once it responds.

        Raises:
            SetupError: A package is missing, a port is taken, or the server ended or did not
                respond within START_SECONDS_MAX; then nothing runs, and the folder stays.
        """
        if self._process is not None and self._process.poll() is None:
            raise SetupError(f"{self._name} is started already, in {self.folder}; stop it first")
        self.kill()  # the watcher of a server that ended by itself
        if occupied := [port for port in self._ports if _taken(port)]:
            raise SetupError(
                f"{self._name}: port {occupied[0]} of {HOST} is taken; "
                "give another one, or none for a free one"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._prepare()
            self._launch(self._command())
            self._await_response()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server by SIGTERM, after a bound by SIGKILL; remove a temporary folder."""
        self._end(signal.SIGTERM)
        if self._temporary and self.folder.exists():
            shutil.rmtree(self.folder)

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would; `start` uses the same folder and ports."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server and start it again, with the same folder and the same ports."""
        self._end(signal.SIGTERM)
        self.start()

    def pause(self) -> None:
        """Stop the server's execution by SIGSTOP: connections stay open without responses."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue a paused server."""
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
            # After a failure the folder stays: data and log may explain it.
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
        # Nearly empty: both programs read options from variables and from files in HOME.
        return {"PATH": os.defpath, "HOME": str(self.folder), "LC_ALL": "C.UTF-8"}

    def _await_response(self) -> None:
        def responds_or_ended() -> bool:
            return self._process is None or self._process.poll() is not None or self._is_ready()

        if not becomes_true(responds_or_ended, START_SECONDS_MAX):
            raise SetupError(self._failure(f"did not respond within {START_SECONDS_MAX:.0f} s"))
        if self._process is None or self._process.poll() is not None:
            raise SetupError(self._failure("ended while starting"))

    def _failure(self, what: str) -> str:
        lines = self.log.read_text("utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n    ".join([f"{self._name} {what}; its log {self.log} ends with:", *lines])

    def _end(self, how: signal.Signals) -> None:
        """Signal the server, wait for it, and let the watcher kill the rest of its group."""
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
    """Poll a condition; return whether it became true within `seconds_max`."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _taken(port: int) -> bool:
    """Return whether a program listens on the port; a connection that is closing does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
