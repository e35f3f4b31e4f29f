"""Whatever limit the broker has, and lowers, a partition's commits fit and all is settled."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from stream_app.core.commit_metadata import Closing, Commit, decode, encode
from stream_app.core.metadata_bound import LEARNED_SECONDS, MetadataBound, size_of
from stream_app.core.partition import DeliveryTask, Partition
from tests.profiles import examples
from tests.unit.core.builders import EVENTS, MINUTE, RULES, batch, collect, record, settle

RECORDS = 120
"""More windows than the lowest limit has room for, several times."""
STEPS = (
    *(("collect", 40), ("collect", 40), ("collect", 3), ("commit", True), ("commit", True)),
    *(("deliver", 1), ("deliver", 5), ("deliver", 20), ("take over", 0), ("commit", False)),
    ("expire", 0),
)
"""Of a commit: whether its response arrives. Of a delivery: how many of the oldest are held up."""
steps = st.lists(st.sampled_from(STEPS), min_size=10, max_size=40)
limits = st.lists(st.tuples(st.integers(0, 15), st.sampled_from((128, 150, 250))), max_size=2)
"""Before which step the limit of the broker is changed, and to what."""


@dataclass
class Group:
    """What outlives a worker: the broker with its limit, and what has become visible."""

    limit: int = 4096
    commit: Commit = field(default_factory=lambda: Commit(0, ()))
    visible: dict[int, Closing] = field(default_factory=dict)
    """Windows by their first offset."""

    def take(self, sent: Commit) -> bool:
        """Take a commit or refuse it; what is visible must not lose its closing."""
        if size_of(sent) > self.limit:
            return False
        ends = {it.end: it.closed_at for it in sent.closings}
        for closing in self.visible.values():
            assert closing.end <= sent.offset or ends.get(closing.end) == closing.closed_at
        self.commit = decode(sent.offset, encode(sent))
        return True


class Worker:
    """The partition, and the part of the shell that commits and delivers."""

    def __init__(self, group: Group, metadata_bytes_max: int) -> None:
        self.group = group
        self.bound = MetadataBound(metadata_bytes_max)
        self.partition = Partition(EVENTS, RULES, 0, group.commit, metadata=self.bound)
        self.due: list[DeliveryTask] = []

    def collect(self, count: int) -> None:
        """Collect so many records, each of a minute of its own."""
        position = self.partition.position
        offsets = range(position, min(position + count, RECORDS))
        if offsets:
            collect(self.partition, batch(*(record(it, 60.0 * it) for it in offsets)), 60 * RECORDS)

    def commit(self, *, answered: bool = True) -> None:
        """Commit what is due, until the broker takes it."""
        refusals = 0
        while (sent := self.partition.to_commit()) is not None:
            if self.group.take(sent):
                if answered:
                    self.partition.recorded(sent)
                break
            before = self.bound.bytes_max, self.bound._refused
            self.bound.learn(size_of(sent), size_of(self.partition.acknowledged))
            assert (self.bound.bytes_max, self.bound._refused) < before
            refusals += 1
        assert refusals <= 10
        self.due += self.partition.delivery_tasks()

    def expire(self) -> None:
        """Let so much time pass that what was learned is tried again."""
        self.bound.expire(MINUTE)
        self.bound.expire(MINUTE + LEARNED_SECONDS)

    def deliver(self, held_up: int) -> None:
        """Deliver what is due but the oldest windows."""
        for task in self.due[held_up:]:
            window = task.window
            self.group.visible[window.first] = window.closing
            settle(task)
        del self.due[held_up:]


@examples(200)
@given(st.sampled_from((150, 4096)), steps, limits)
def test_whatever_the_broker_takes_nothing_visible_is_lost_and_all_is_settled(
    metadata_bytes_max: int, drawn: list[tuple[str, int]], limits: list[tuple[int, int]]
) -> None:
    group = Group()
    worker = Worker(group, metadata_bytes_max)
    for number, (step, value) in enumerate(drawn):
        group.limit = dict(limits).get(number, group.limit)
        match step:
            case "collect":
                worker.collect(value)
            case "commit":
                worker.commit(answered=bool(value))
            case "deliver":
                worker.deliver(value)
            case "expire":
                worker.expire()
            case _:
                worker = Worker(group, metadata_bytes_max)
    for _ in range(3 * RECORDS):
        worker.collect(RECORDS)
        worker.partition.tick(MINUTE + 60 * (RECORDS + 2), RECORDS)
        worker.commit()
        worker.deliver(0)
        if group.commit == Commit(RECORDS, ()):
            break
    assert group.commit == Commit(RECORDS, ()), "all is settled"
    firsts = sorted(group.visible)
    assert [group.visible[it].end for it in firsts] == [*firsts[1:], RECORDS]
