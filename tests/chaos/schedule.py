"""Schedule of faults, drawn from a seed before anything runs.

    draw(seed=7, seconds=180) ─> Injection(KILL, at=1.9, ...), Injection(S3_HANG, at=3.4, ...), ...

The kinds come out of a bag that holds each of them at least once and is shuffled and filled again
when it is empty, so even a short schedule has every kind, and a longer one begins like a shorter
one. A fault lasts longer than the gap to the next, so faults overlap. One of the kinds is
`NOTHING`: a healthy system must keep its promises as well. Half of the faults are moved next to
the end of a window, where things are decided.

Pure: no clock, no process. `injector` performs a schedule.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from typing import Final

GAP_SECONDS: Final = (0.4, 4.5)
"""Between the beginnings of two faults."""
AROUND_END_SECONDS: Final = (-0.3, 0.5)
"""How far from the end of a window a fault is put that is meant for it."""
CLOCK_STEP_SECONDS: Final = (0.5, 600.0)
"""How far a clock steps, back or ahead. S3 refuses signatures that are 15 minutes off."""
S3_HANG_SECONDS: Final = (31.0, 38.0)
"""Longer than the client waits for an answer, 30 s."""
HANG_SHARE: Final = 0.25
"""Of the hangs, how many last so long."""


class Kind(Enum):
    """A kind of fault; the value is its name for people."""

    NOTHING = "none"
    KILL = "worker: kill -9, another one started"
    STALL = "worker: stopped and continued within its session"
    ZOMBIE = "worker: stopped beyond its session and continued"
    LEAVE = "worker: SIGTERM"
    JOIN = "worker: one more"
    CLOCK = "worker: wall clock stepped and stepped back"
    BROKER_KILL = "broker: kill -9 and start"
    BROKER_RESTART = "broker: stop and start"
    BROKER_STALL = "broker: stopped and continued"
    BROKER_SILENCE = "broker: connections silent without a reset, new ones work"
    BROKER_ERRORS = "broker: responses replaced by errors"
    S3_REFUSE = "S3: connections refused"
    S3_HANG = "S3: no answers, then all of them"
    S3_SLOW = "S3: slow answers"
    S3_ERRORS = "S3: burst of 500 and 503"
    S3_RESET = "S3: connections reset before, in and after the body"
    S3_DAMAGE = "S3: a bit turned on the way"
    S3_LOSE = "S3: done, but the answer lost"
    S3_ABORT = "S3: upload in parts aborted behind the worker's back"

    @property
    def of_s3(self) -> bool:
        return self.name.startswith("S3_")


@dataclass(frozen=True)
class Nature:
    """Ranges from which a kind of fault is drawn."""

    share: int
    """How many of it are in the bag."""
    seconds: tuple[float, float]
    """The least and the most that it lasts."""
    strength: tuple[float, float] = (1.0, 1.0)
    """For S3 and responses, the share that it hits; for silence, that of the connections."""


NATURES: Final = {
    Kind.NOTHING: Nature(2, (3, 6)),
    Kind.KILL: Nature(4, (0, 3)),
    Kind.STALL: Nature(2, (0.2, 4)),
    Kind.ZOMBIE: Nature(2, (7, 11)),
    Kind.LEAVE: Nature(2, (0, 0)),
    Kind.JOIN: Nature(2, (0, 0)),
    Kind.CLOCK: Nature(3, (1, 10)),
    Kind.BROKER_KILL: Nature(1, (0, 3)),
    Kind.BROKER_RESTART: Nature(1, (0, 0)),
    Kind.BROKER_STALL: Nature(1, (1, 6)),
    Kind.BROKER_SILENCE: Nature(1, (0, 0), (0.3, 1)),
    Kind.BROKER_ERRORS: Nature(2, (1, 5), (0.05, 0.5)),
    Kind.S3_REFUSE: Nature(1, (1, 8)),
    Kind.S3_HANG: Nature(1, (2, 10)),
    Kind.S3_SLOW: Nature(1, (3, 10), (0.5, 1)),
    Kind.S3_ERRORS: Nature(2, (2, 10), (0.3, 1)),
    Kind.S3_RESET: Nature(2, (2, 10), (0.2, 0.8)),
    Kind.S3_DAMAGE: Nature(1, (2, 8), (0.2, 0.8)),
    Kind.S3_LOSE: Nature(2, (2, 8), (0.3, 0.9)),
    Kind.S3_ABORT: Nature(2, (15, 20)),
}


@dataclass(frozen=True)
class Injection:
    """One fault of a schedule."""

    kind: Kind
    at: float
    """Seconds after the beginning, which is the beginning of a window."""
    seconds: float
    aim: float
    """Choice among the workers that can be hit, from 0 up to 1."""
    strength: float
    """Share of requests, responses or connections that are hit; for a clock, its step's seconds."""


def draw(
    seed: int, seconds: float, *, window_seconds: float, grace_seconds: float
) -> tuple[Injection, ...]:
    """Return the faults that begin within so many seconds, in order."""
    chance = random.Random(seed)
    ends = (window_seconds, (0.0, grace_seconds))
    drawn = takewhile(lambda it: it.at < seconds, _endless(chance, ends))
    return tuple(drawn)


def bag_seconds_max() -> float:
    """Return the longest time in which the bag is emptied, so that each kind has begun."""
    kinds = sum(nature.share for nature in NATURES.values())
    nothing = NATURES[Kind.NOTHING]
    return kinds * GAP_SECONDS[1] + nothing.share * nothing.seconds[1]


def _endless(chance: random.Random, ends: tuple[float, tuple[float, ...]]) -> Iterator[Injection]:
    bag: list[Kind] = []
    at = latest = 0.0
    while True:
        if not bag:
            bag = [kind for kind, nature in NATURES.items() for _ in range(nature.share)]
            chance.shuffle(bag)
        kind = bag.pop()
        at += chance.uniform(*GAP_SECONDS)
        latest = max(latest, _near_an_end(chance, at, ends) if chance.random() < 0.5 else at)
        nature = NATURES[kind]
        seconds = chance.uniform(*nature.seconds)
        if kind is Kind.S3_HANG and chance.random() < HANG_SHARE:
            seconds = chance.uniform(*S3_HANG_SECONDS)
        yield Injection(
            kind=kind,
            at=latest,
            seconds=seconds,
            aim=chance.random(),
            strength=_step(chance) if kind is Kind.CLOCK else chance.uniform(*nature.strength),
        )
        if kind is Kind.NOTHING:
            at += seconds


def _near_an_end(chance: random.Random, at: float, ends: tuple[float, tuple[float, ...]]) -> float:
    """Move a time next to when a window ends by a record, or later, idly."""
    window_seconds, later = ends
    end = math.ceil(at / window_seconds) * window_seconds
    return end + chance.choice(later) + chance.uniform(*AROUND_END_SECONDS)


def _step(chance: random.Random) -> float:
    """Draw a step of a clock: small ones as often as large ones, back as often as ahead."""
    least, most = map(math.log, CLOCK_STEP_SECONDS)
    return chance.choice((-1, 1)) * math.exp(chance.uniform(least, most))
