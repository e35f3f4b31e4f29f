"""Parts that S3 loses once are sent again; an object that is lost again fails by itself."""

from stream_app.core.lost_uploads import LostUploads, WindowObject
from stream_app.errors import PermanentError, UploadGoneError
from tests.unit.core.builders import EVENTS

GONE = UploadGoneError("InvalidPart", "the parts of my-bucket/x are gone")
ONE, TWO, THREE = (WindowObject(EVENTS, first, "orders-archive") for first in (1, 2, 3))


def test_only_the_first_loss_in_a_row_rebuilds_the_partition() -> None:
    lost = LostUploads()
    assert lost.error(ONE, GONE) is GONE
    for _ in range(2):
        error = lost.error(ONE, GONE)
        assert isinstance(error, PermanentError)
        assert error.code == "InvalidPart"
        assert error.message == (
            "lost again after all parts were sent anew: the parts of my-bucket/x are gone"
        )
    assert lost.error(TWO, GONE) is GONE, "of another window"
    assert lost.error(ONE._replace(destination="every"), GONE) is GONE


def test_object_that_was_delivered_in_between_is_lost_for_the_first_time() -> None:
    lost = LostUploads()
    lost.error(ONE, GONE)
    lost.ended(ONE)
    lost.ended(ONE)
    assert lost.error(ONE, GONE) is GONE


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    lost = LostUploads(objects_max=2)
    for name in (ONE, TWO, THREE):
        assert lost.error(name, GONE) is GONE
    assert lost.error(THREE, GONE) is not GONE
    assert lost.error(TWO, GONE) is not GONE
    assert lost.error(ONE, GONE) is GONE
