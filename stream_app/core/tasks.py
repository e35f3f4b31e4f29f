"""Tasks that a partition hands to its worker: uploads, deliveries, compressions. Pure."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from stream_app.core.closed_windows import ClosedWindow
from stream_app.core.delivery import Delivery
from stream_app.core.lost_uploads import WindowObject
from stream_app.core.window import BodyCompression, Window

if TYPE_CHECKING:
    from stream_app.core.partition import Partition


@dataclass(frozen=True, slots=True)
class PartUpload:
    """Upload of parts of an object, possible while its window is open.

    Valid as long as the partition's epoch is the same.
    """

    partition: "Partition"
    epoch: int
    delivery: Delivery
    first: int
    """First offset of the window."""

    @property
    def name(self) -> WindowObject:
        """Name of the object."""
        return WindowObject(self.partition.tp, self.first, self.delivery.destination.id)

    @property
    def valid(self) -> bool:
        """Whether the partition is still held under the assignment that returned this task."""
        return self.epoch == self.partition.epoch


@dataclass(frozen=True, slots=True)
class DeliveryTask(PartUpload):
    """Delivery of a closed window to one destination, to be performed."""

    window: ClosedWindow


class Compressions(NamedTuple):
    """Lines of one partition's open window to compress: `perform` it in a thread."""

    partition: "Partition"
    window: Window
    items: list[BodyCompression]

    def perform(self) -> None:
        """Compress; see `object_body.Compression`."""
        for it in self.items:
            it.compression.perform()
