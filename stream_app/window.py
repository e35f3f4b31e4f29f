"""The open window of one partition: what each destination has collected so far."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream_app.batches import Answers
from stream_app.deliveries import DELIVERY_BYTES, Delivery
from stream_app.expressions import Failure
from stream_app.objects import Body, identifier, object_key
from stream_app.receipts import Tally
from stream_app.settings import Destination


@dataclass(slots=True)
class Content:
    """What one destination has collected in the open window."""

    destination: Destination
    tally: Tally = field(default_factory=Tally)
    body: Body = field(default_factory=Body)


class Window:
    """The contents of a window while it is open.

    Args:
        receipt_bytes_max: Bound of the lists of one receipt; None for a window whose end is
            recorded: a predecessor has found it to fit.
    """

    def __init__(self, receipt_bytes_max: int | None) -> None:
        self.held = 0
        """Bytes of memory."""
        self.full = False
        """A list of one of its receipts has reached its bound: the window must end here."""
        self._receipt_bytes_max = receipt_bytes_max
        self._contents: dict[str, Content] = {}

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

    def close(
        self, topic: str, partition: int, first_offset: int, uploaded_at: int
    ) -> dict[str, Delivery]:
        """Return what each destination is to get, under keys that follow from where it began."""
        return {
            destination: Delivery(
                destination=content.destination,
                tally=content.tally,
                body=content.body if content.body.lines else None,
                size_uncompressed=content.body.size,
                key=object_key(
                    content.destination.prefix,
                    uploaded_at,
                    identifier(topic, partition, first_offset, destination),
                ),
            )
            for destination, content in self._contents.items()
        }

    def _bound(self, answers: Answers, low: int, high: int, upto: int, bytes_max: int) -> int:
        """Return the offset behind the record that fills a list, at most `upto`."""
        first, last = bisect_left(answers.exceptions, low), bisect_left(answers.exceptions, high)
        content = self._contents.get(answers.destination.id)
        room = bytes_max - (content.tally.bytes_estimate if content else 0)
        trial, following = Tally(), low
        if content and content.tally.run_open:
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
        content = self._contents.get(destination.id)
        if content is None:
            content = self._contents[destination.id] = Content(destination)
            self.held += DELIVERY_BYTES
        tally, body = content.tally, content.body
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
            body.add(payloads)
        self.held += body.held + tally.held - held
        if self._receipt_bytes_max is not None and tally.bytes_estimate >= self._receipt_bytes_max:
            self.full = True
