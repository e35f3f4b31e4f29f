"""Open window of one partition: lines and outcomes that each destination has collected. Pure."""

from bisect import bisect_left
from collections.abc import Collection, KeysView, Sequence
from typing import NamedTuple

from stream_app.config.settings import Destination
from stream_app.core.delivery import Delivery
from stream_app.core.memory_account import MemoryAccount
from stream_app.core.object_body import SIZES, Compression, Sizes
from stream_app.core.object_format import FORMATS
from stream_app.core.object_key import identifier, object_key
from stream_app.core.receipt import Problem, Tally
from stream_app.core.router import DestinationOutcomes
from stream_app.expressions.expression import Failure
from stream_app.records import TopicPartition


class BodyCompression(NamedTuple):
    """A compression, and the delivery whose lines it takes."""

    delivery: Delivery
    compression: Compression


class Window:
    """Contents of a window while it is open.

    Args:
        tp: Its partition.
        first: Its first offset.
        receipt_bytes_max: Bound of the lists of one receipt; None for a window whose end is
            recorded: a predecessor has found that its receipts fit.
        sizes: Of slices and parts of its objects.
        closed_at: The closing time, of a window whose end is recorded.
        is_named_by_time: See `Closing`.
        memory: Account in which the window's memory is included; left out: in no other.
    """

    def __init__(
        self,
        tp: TopicPartition,
        first: int,
        receipt_bytes_max: int | None,
        *,
        sizes: Sizes = SIZES,
        closed_at: int | None = None,
        is_named_by_time: bool = True,
        memory: MemoryAccount | None = None,
    ) -> None:
        self.closed_at = closed_at
        """The time in the keys: fixed when the first part is cut."""
        self.memory = MemoryAccount(memory)
        """Of all deliveries."""
        self.busy = 0
        """Number of compressions in progress."""
        self.full = False
        """A receipt's list, or the size of an object, reaches its bound: the window must end."""
        self._tp = tp
        self._is_named_by_time = is_named_by_time
        self._first = first
        self._receipt_bytes_max = receipt_bytes_max
        self._sizes = sizes
        self._deliveries: dict[str, Delivery] = {}
        self._due: dict[str, Delivery] = {}
        """Deliveries with a full slice."""
        self._leaving: list[Delivery] = []
        """Deliveries with a part to upload, once for each part."""

    def add(self, outcomes: Sequence[DestinationOutcomes], first: int, upto: int) -> int:
        """Add the outcomes of offsets from `first` to `upto`, or fewer where a list is full.

        Returns:
            The offset up to which every destination's outcomes were added.
        """
        slices = []
        for it in outcomes:
            low, high = bisect_left(it.offsets, first), bisect_left(it.offsets, upto)
            if low < high:
                slices.append((it, low, high))
        if self._receipt_bytes_max is not None:
            for it, low, high in slices:
                if it.exceptions:
                    upto = self._bound(it, low, high, upto, self._receipt_bytes_max)
        for it, low, high in slices:
            self._add_one(it, low, bisect_left(it.offsets, upto, low, high))
        return upto

    def give_up(self, destinations: Sequence[Destination], problem: Problem) -> None:
        """Give the window up for each of these destinations: its records cannot be read."""
        for destination in destinations:
            self._delivery_to(destination).problem = problem

    def drop(self) -> None:
        """Free all memory: what was collected is not delivered."""
        for delivery in self._deliveries.values():
            delivery.release()

    def close(self, now: int, waiting_bytes: int = 0) -> dict[str, Delivery]:
        """Return the delivery of each destination, with its key.

        Args:
            now: Closing time, unless it is fixed already.
            waiting_bytes: Memory that each delivery takes from now on, beside lines and lists.
        """
        self._name(self._deliveries.values(), now)
        for delivery in self._deliveries.values():
            delivery.close(waiting_bytes)
        return self._deliveries

    def compressions(self, *, whole: bool = False) -> list[BodyCompression]:
        """Remove full slices for compression; with `whole` all waiting lines, to free memory."""
        due, self._due = self._due, {}
        taken = []
        for delivery in self._deliveries.values() if whole else due.values():
            body = delivery.content
            if body.waiting and not body.is_busy:
                taken.append(BodyCompression(delivery, body.compression(whole=whole)))
        self.busy += len(taken)
        return taken

    def compressed(self, done: Sequence[BodyCompression], now: int) -> None:
        """Take the results of `compressions`, and cut a part where there is enough for one."""
        leaving = []
        for delivery, compression in done:
            body = delivery.content
            body.compressed(compression)
            if body.cut():
                leaving.append(delivery)
            self.full |= body.is_full
        self.busy -= len(done)
        self._let_leave(leaving, now)

    def cut_early(self, now: int) -> bool:
        """Cut parts of the smallest size to free memory; return whether any was cut."""
        leaving = [it for it in self._deliveries.values() if it.content.cut(early=True)]
        self._let_leave(leaving, now)
        return bool(leaving)

    def leaving(self) -> list[Delivery]:
        """Return the deliveries with a part to upload, once for each part and call."""
        leaving, self._leaving = self._leaving, []
        return leaving

    def leave_again(self) -> None:
        """Make `leaving` return every delivery with an unsent part again."""
        self._leaving = [it for it in self._deliveries.values() if it.content.unsent]

    @property
    def is_leaving(self) -> bool:
        """Whether parts are being uploaded, and S3 takes them."""
        bodies = (it.content for it in self._deliveries.values())
        return any(body.unsent and not body.is_stuck for body in bodies)

    @property
    def destinations(self) -> KeysView[str]:
        """Ids of the destinations that have a delivery."""
        return self._deliveries.keys()

    @property
    def deliveries(self) -> list[Delivery]:
        """The delivery of each destination."""
        return list(self._deliveries.values())

    def _let_leave(self, leaving: Sequence[Delivery], now: int) -> None:
        self._name(leaving, now)
        self._leaving += leaving

    def _name(self, deliveries: Collection[Delivery], now: int) -> None:
        """Set the keys; `now` becomes the closing time unless it is fixed already."""
        if not deliveries:
            return
        closed_at = self.closed_at = now if self.closed_at is None else self.closed_at
        in_name = closed_at if self._is_named_by_time else None
        for delivery in deliveries:
            name = identifier(*self._tp, self._first, in_name, delivery.destination.id)
            format_ = FORMATS[delivery.destination.format]
            delivery.key = object_key(delivery.destination.prefix, closed_at, name, format_)

    def _bound(
        self, found: DestinationOutcomes, low: int, high: int, upto: int, bytes_max: int
    ) -> int:
        """Return the offset after the record that fills a list, at most `upto`."""
        first, last = bisect_left(found.exceptions, low), bisect_left(found.exceptions, high)
        delivery = self._deliveries.get(found.destination.id)
        room = bytes_max - (delivery.tally.bytes_estimate if delivery else 0)
        trial, following = Tally(), low
        if delivery and delivery.tally.run_open:
            trial.skipped, trial.run_open = [[0, 0]], True  # a skip at once would lengthen its run
        for index in found.exceptions[first:last]:
            outcome, offset = found.outcomes[index], found.offsets[index]
            trial.run_open &= index == following
            following = index + 1
            if isinstance(outcome, Failure):
                trial.fail(offset, outcome.record, outcome.error)
            else:
                trial.skip(offset)
            if trial.bytes_estimate >= room:
                return min(upto, offset + 1)
        return upto

    def _add_one(self, found: DestinationOutcomes, low: int, high: int) -> None:
        if low == high:
            return
        delivery = self._delivery_to(found.destination)
        tally, body = delivery.tally, delivery.content
        outcomes, exceptions = found.outcomes, found.exceptions
        first, last = bisect_left(exceptions, low), bisect_left(exceptions, high)
        payloads: list[bytes] = []
        start = low
        for index in exceptions[first:last]:
            if index > start:
                payloads += outcomes[start:index]  # type: ignore[arg-type] # no exceptions there
                tally.deliver(index - start)
            outcome, offset = outcomes[index], found.offsets[index]
            if isinstance(outcome, Failure):
                tally.fail(offset, outcome.record, outcome.error)
            else:
                tally.skip(offset)
            start = index + 1
        if first < last:
            delivery.count_tally()
        if high > start:
            payloads += outcomes[start:high]  # type: ignore[arg-type] # no exceptions there
            tally.deliver(high - start)
        if payloads:
            body.add(payloads)
            if body.is_due:
                self._due[found.destination.id] = delivery
        if self._receipt_bytes_max is not None and tally.bytes_estimate >= self._receipt_bytes_max:
            self.full = True

    def _delivery_to(self, destination: Destination) -> Delivery:
        delivery = self._deliveries.get(destination.id)
        if delivery is None:
            delivery = Delivery(destination, self._sizes, self.memory)
            self._deliveries[destination.id] = delivery
        return delivery
