"""The open window of one partition: what each destination has collected so far."""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import NamedTuple

from stream_app.batches import Answers
from stream_app.deliveries import DELIVERY_BYTES, Delivery
from stream_app.expressions import TP, Failure
from stream_app.objects import SIZES, Body, Compression, Sizes, identifier, object_key
from stream_app.receipts import Tally


class Compressing(NamedTuple):
    """A compression, and whose lines it takes."""

    delivery: Delivery
    compression: Compression


class Window:
    """The contents of a window while it is open.

    Args:
        tp: Its partition.
        first: Its first offset.
        receipt_bytes_max: Bound of the lists of one receipt; None for a window whose end is
            recorded: a predecessor has found it to fit.
        sizes: Of the pieces of its objects.
        uploaded_at: The upload time, of a window whose end is recorded.
    """

    def __init__(
        self,
        tp: TP,
        first: int,
        receipt_bytes_max: int | None,
        *,
        sizes: Sizes = SIZES,
        uploaded_at: int | None = None,
    ) -> None:
        self.uploaded_at = uploaded_at
        """It is in the keys: so it is fixed when the first part leaves."""
        self.held = 0
        """Bytes of memory."""
        self.waiting = 0
        """Of these, lines that could be compressed."""
        self.busy = 0
        """How many compressions are under way."""
        self.full = False
        """A list of a receipt, or the parts of an object, reach their bound: it must end here."""
        self._tp = tp
        self._first = first
        self._receipt_bytes_max = receipt_bytes_max
        self._sizes = sizes
        self._deliveries: dict[str, Delivery] = {}
        self._due: dict[str, Delivery] = {}
        """Those with a full slice."""
        self._leaving: list[Delivery] = []

    def add(self, answers: Sequence[Answers], first: int, upto: int) -> int:
        """Add the answers of offsets from `first` to `upto`; stop early where a list is full.

        Returns:
            The offset up to which every destination's answers are in.
        """
        slices = []
        for it in answers:
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

    def close(self, now: int) -> dict[str, Delivery]:
        """Return what each destination is to get, under keys that follow from where it began."""
        self._name(self._deliveries.values(), now)
        for delivery in self._deliveries.values():
            delivery.close()
        return self._deliveries

    def compressions(self, *, whole: bool = False) -> list[Compressing]:
        """Take what waits and fills a slice; all that waits if the memory is short (`whole`)."""
        due, self._due = self._due, {}
        taken = []
        for delivery in self._deliveries.values() if whole else due.values():
            body = delivery.content
            if body.waiting and not body.is_busy:
                self.waiting -= body.waiting
                held = body.held
                taken.append(Compressing(delivery, body.compression(whole=whole)))
                self.held += body.held - held
        self.busy += len(taken)
        return taken

    def compressed(self, done: Sequence[Compressing], now: int) -> None:
        """Note what came of `compressions`: what makes a part may leave."""
        leaving = []
        for delivery, compression in done:
            body = delivery.content
            held, waiting = body.held, body.waiting
            body.compressed(compression)
            if body.cut():
                leaving.append(delivery)
            self.held += body.held - held
            self.waiting += body.waiting - waiting
        self.busy -= len(done)
        self._let_leave(leaving, now)

    def cut_early(self, now: int) -> bool:
        """Let leave what S3 would take, for the sake of memory; say whether anything does."""
        leaving = []
        for delivery in self._deliveries.values():
            body = delivery.content
            held = body.held
            if body.cut_early():
                leaving.append(delivery)
                self.held += body.held - held
        self._let_leave(leaving, now)
        return bool(leaving)

    def leaving(self) -> list[Delivery]:
        """Return what has a part that may leave, once for each part."""
        leaving, self._leaving = self._leaving, []
        return leaving

    def leave_again(self) -> None:
        """Nothing of what `leaving` gave out is on its way any more."""
        self._leaving = [it for it in self._deliveries.values() if it.content.unsent]

    @property
    def is_leaving(self) -> bool:
        """Whether parts are on their way, and S3 takes them."""
        bodies = (it.content for it in self._deliveries.values())
        return any(body.unsent and not body.is_stuck for body in bodies)

    @property
    def deliveries(self) -> list[Delivery]:
        """What each destination has collected."""
        return list(self._deliveries.values())

    def _let_leave(self, leaving: Sequence[Delivery], now: int) -> None:
        self._name(leaving, now)
        self._leaving += leaving
        self.full |= any(delivery.content.is_full for delivery in leaving)

    def _name(self, deliveries: Collection[Delivery], now: int) -> None:
        """Give keys, with the present as upload time unless it is fixed already."""
        if not deliveries:
            return
        uploaded_at = self.uploaded_at = now if self.uploaded_at is None else self.uploaded_at
        for delivery in deliveries:
            name = identifier(*self._tp, self._first, delivery.destination.id)
            delivery.key = object_key(delivery.destination.prefix, uploaded_at, name)

    def _bound(self, answers: Answers, low: int, high: int, upto: int, bytes_max: int) -> int:
        """Return the offset behind the record that fills a list, at most `upto`."""
        first, last = bisect_left(answers.exceptions, low), bisect_left(answers.exceptions, high)
        delivery = self._deliveries.get(answers.destination.id)
        room = bytes_max - (delivery.tally.bytes_estimate if delivery else 0)
        trial, following = Tally(), low
        if delivery and delivery.tally.run_open:
            trial.skipped, trial.run_open = [[0, 0]], True  # a skip at once would lengthen its run
        for place in answers.exceptions[first:last]:
            outcome = answers.outcomes[place]
            trial.run_open &= place == following
            following = place + 1
            if isinstance(outcome, Failure):
                trial.fail(answers.offsets[place], outcome.record, outcome.error)
            else:
                trial.skip(answers.offsets[place])
            if trial.bytes_estimate >= room:
                return min(upto, answers.offsets[place] + 1)
        return upto

    def _add_one(self, answers: Answers, low: int, high: int) -> None:
        if low == high:
            return
        destination = answers.destination
        delivery = self._deliveries.get(destination.id)
        if delivery is None:
            delivery = self._deliveries[destination.id] = Delivery(destination, Body(self._sizes))
            self.held += DELIVERY_BYTES
        tally, body = delivery.tally, delivery.content
        held = body.held + tally.held
        outcomes, exceptions = answers.outcomes, answers.exceptions
        first, last = bisect_left(exceptions, low), bisect_left(exceptions, high)
        payloads: list[bytes] = []
        start = low
        for place in exceptions[first:last]:
            if place > start:
                payloads += outcomes[start:place]  # type: ignore[arg-type] # no exceptions there
                tally.deliver(place - start)
            outcome, offset = outcomes[place], answers.offsets[place]
            if isinstance(outcome, Failure):
                tally.fail(offset, outcome.record, outcome.error)
            else:
                tally.skip(offset)
            start = place + 1
        if high > start:
            payloads += outcomes[start:high]  # type: ignore[arg-type] # no exceptions there
            tally.deliver(high - start)
        if payloads:
            self.waiting -= body.waiting
            body.add(payloads)
            self.waiting += body.waiting
            if body.is_due:
                self._due[destination.id] = delivery
        self.held += body.held + tally.held - held
        if self._receipt_bytes_max is not None and tally.bytes_estimate >= self._receipt_bytes_max:
            self.full = True
