"""Counters by destination: of so many destinations their own, of all others the sum.

A scrape of 100,000 destinations helps no one. Own counters have the destinations that
come first; later ones take the place of one whose last receipt was without a failure, once they
fail themselves. A counter only grows, whatever changes places: a destination begins at 0, and what
it has counted for the others before stays there. Pure.
"""

from collections.abc import Collection
from typing import Final

from stream_app.config.settings import METRICS_DESTINATIONS_MAX
from stream_app.monitoring.accumulators import OutcomeCounts

OTHERS: Final = "(others)"
"""Name of all others, which is no id of a destination."""


class DestinationCounts:
    """Counters of destinations that had an event.

    Args:
        own_max: Number of destinations that have counters of their own.
    """

    def __init__(self, own_max: int = METRICS_DESTINATIONS_MAX) -> None:
        self.own_max = own_max
        self.own: dict[str, OutcomeCounts] = {}
        """Counters by id."""
        self.others = OutcomeCounts()
        """Counters of all other destinations."""
        self.left_out: set[str] = set()
        """Ids of the other destinations that had an event."""
        self._sound: dict[str, None] = {}
        """Ids of destinations with own counters that do not fail, the longest known first."""

    def of(self, destination: str, *, fails: bool = False) -> OutcomeCounts:
        """Return the counters that an event of a destination counts for.

        Args:
            destination: Its id.
            fails: Whether the event is a failure.
        """
        counts = self.own.get(destination)
        if counts is None:
            return self._new(destination, fails=fails)
        self._note(destination, fails=fails)
        return counts

    def keep(self, destinations: Collection[str]) -> None:
        """Drop the counters of removed destinations; one that still has a window begins anew."""
        for id_ in self.own.keys() - destinations:
            del self.own[id_]
            self._sound.pop(id_, None)
        self.left_out.intersection_update(destinations)

    def _new(self, destination: str, *, fails: bool) -> OutcomeCounts:
        is_late = destination in self.left_out
        if len(self.own) >= self.own_max:
            if not (fails and self._sound):
                self.left_out.add(destination)
                return self.others
            sound = next(iter(self._sound))
            del self.own[sound], self._sound[sound]
            self.left_out.add(sound)
            is_late = True
        counts = self.own[destination] = OutcomeCounts()
        self.left_out.discard(destination)
        self._note(destination, fails=fails)
        # What counts for a series that nobody has seen at 0 is no increase.
        return self.others if is_late else counts

    def _note(self, destination: str, *, fails: bool) -> None:
        if fails:
            self._sound.pop(destination, None)
        else:
            self._sound[destination] = None
