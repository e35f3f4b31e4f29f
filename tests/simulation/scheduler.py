"""A discrete-event scheduler: virtual time, tasks that are generators, calls that can go wrong.

A task yields what it waits for:

    yield 0.5                 virtual seconds
    yield signal              until somebody sets it
    yield Call("put", f)      an I/O call: f() takes effect at the server, its answer comes back

Each call is a place where the world may break: see `Fault`. A task belongs to a process; a crashed
process takes no further step, a paused one (SIGSTOP) takes its steps later, while what it has sent
still arrives.
"""

import heapq
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count
from typing import Any

Steps = Generator[Any, Any, Any]


class NoAnswerError(Exception):
    """A call ended without an answer: whether it took effect is unknown."""


class Fault(Enum):
    """Faults of one I/O call."""

    CRASH_BEFORE = auto()
    """The process dies before the request leaves it."""
    CRASH_AFTER = auto()
    """The request takes effect; the process dies before it reads the answer."""
    ERROR = auto()
    """No effect, and no answer."""
    LOST_ANSWER = auto()
    """Effect, but no answer."""
    LATE = auto()
    """No answer; the effect comes seconds later, as of a request that waits in a buffer."""


LATE_SECONDS_MAX = 8.0
"""How late a `LATE` effect comes, at most; by how much is drawn from the calls' number."""


@dataclass(slots=True)
class Call:
    """One I/O call; `effect` runs at the server and returns the answer, or raises it."""

    kind: str
    effect: Callable[[], Any]


class Process:
    """Something that can crash or be stopped for a while."""

    crashed = False
    paused_until = 0.0

    def crash(self) -> None:
        """Die: no task of this process takes a further step."""
        self.crashed = True


class Signal:
    """As `asyncio.Event`."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self._scheduler = scheduler
        self.is_set = False
        self.waiting: list[Task] = []

    def set(self) -> None:
        self.is_set = True
        for task in self.waiting:
            self._scheduler.after(0.0, task.step)
        self.waiting.clear()

    def clear(self) -> None:
        self.is_set = False


class Lock:
    """As `asyncio.Lock`, but for the order of those who wait: `yield from lock.acquire()`."""

    def __init__(self, scheduler: "Scheduler") -> None:
        self._freed = Signal(scheduler)
        self.is_held = False

    def acquire(self) -> Steps:
        while self.is_held:
            self._freed.clear()
            yield self._freed
        self.is_held = True

    def release(self) -> None:
        self.is_held = False
        self._freed.set()


class Task:
    """A generator on its way."""

    __slots__ = ("_scheduler", "_steps", "done", "process")

    def __init__(self, scheduler: "Scheduler", process: Process, steps: Steps) -> None:
        self._scheduler = scheduler
        self._steps = steps
        self.process = process
        self.done = False

    def cancel(self) -> None:
        """Take no further step; a call under way still has its effect."""
        if not self.done:
            self.done = True
            self._steps.close()

    def step(self, value: Any = None, error: Exception | None = None) -> None:
        scheduler, process = self._scheduler, self.process
        if self.done or process.crashed:
            return
        if process.paused_until > scheduler.now:
            scheduler.after(process.paused_until - scheduler.now, self.step, value, error)
            return
        try:
            wanted = self._steps.send(value) if error is None else self._steps.throw(error)
        except StopIteration:
            self.done = True
            return
        if wanted.__class__ is float:
            scheduler.after(wanted, self.step)
        elif wanted.__class__ is Call:
            scheduler.call(self, wanted)
        elif wanted.is_set:
            scheduler.after(0.0, self.step)
        else:
            wanted.waiting.append(self)


class Scheduler:
    """Runs what is due, in virtual time; the same seed gives the same run.

    Args:
        latency: Returns the seconds that one way of a call takes.
        plan: Chooses the fault of the n-th call (from 1), by its number, kind and process.
    """

    def __init__(
        self,
        latency: Callable[[str], float],
        plan: Callable[[int, str, Process], Fault | None],
    ) -> None:
        self.now = 0.0
        self.calls = 0
        self._latency = latency
        self._plan = plan
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()

    def after(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._due, (self.now + delay, next(self._numbers), action, arguments))

    def spawn(self, process: Process, steps: Steps) -> Task:
        task = Task(self, process, steps)
        self.after(0.0, task.step)
        return task

    def run_until(self, time: float) -> None:
        due = self._due
        while due and due[0][0] <= time:
            self.now, _, action, arguments = heapq.heappop(due)
            action(*arguments)
        self.now = time

    def call(self, task: Task, call: Call) -> None:
        self.calls += 1
        fault = self._plan(self.calls, call.kind, task.process)
        if fault is Fault.CRASH_BEFORE:
            task.process.crash()
            return
        self.after(self._latency(call.kind), self._arrive, task, call, fault)

    def _arrive(self, task: Task, call: Call, fault: Fault | None) -> None:
        answer, error = None, None
        if fault is Fault.LATE:
            self.after(self.calls % 16 / 16 * LATE_SECONDS_MAX, self._take_effect, call)
        elif fault is not Fault.ERROR:
            answer, error = self._take_effect(call)
        if fault is Fault.CRASH_AFTER and not task.process.crashed:
            task.process.crash()
        if fault in {Fault.ERROR, Fault.LOST_ANSWER, Fault.LATE}:
            answer, error = None, NoAnswerError(call.kind)
        self.after(self._latency(call.kind), task.step, answer, error)

    @staticmethod
    def _take_effect(call: Call) -> tuple[Any, Exception | None]:
        try:
            return call.effect(), None
        except ServerError as refusal:
            return None, refusal


class ServerError(Exception):
    """A server's answer that is a refusal."""
