"""What is sent after a refusal, and when a receipt is given up."""

from dataclasses import replace

import pytest

from stream_app.core.publication import Publication
from stream_app.core.receipt import Receipt, Status
from stream_app.core.retry_policy import RetryPolicy
from stream_app.errors import TooLargeError, TransientError
from tests.unit.core.test_receipt import PROBLEM, RECEIPT, large, size

POLICY = RetryPolicy(retry_for=86_400, give_up_after=600)
AWAY = TransientError("KafkaConnectionError", "away")
CHANCE = 0.5


def too_large(receipt: Receipt) -> TooLargeError:
    return TooLargeError("MessageSizeTooLargeError", "too large", size(receipt))


class Topic:
    """Counts the receipts that it takes."""

    def __init__(self) -> None:
        self.taken = 0

    def of(self, receipt: Receipt) -> Publication:
        return Publication(receipt, POLICY, lambda: self.taken)


def test_other_errors_are_retried_with_the_same_receipt_for_ever() -> None:
    topic = Topic()
    publication = topic.of(large())
    for number in range(20):
        topic.taken += 1
        pause = publication.failed(AWAY, number * 10_000.0, CHANCE)
        assert pause == POLICY.pause(AWAY, number + 1, CHANCE)
        assert publication.receipt.lists is None


def test_receipt_that_is_too_large_is_shortened_by_half_and_sent_at_once() -> None:
    publication = Topic().of(large())
    refused = publication.receipt
    assert publication.failed(too_large(refused), 0.0, CHANCE) == 0.0
    assert size(publication.receipt) <= size(refused) // 2


def refuse_all_forms(publication: Publication, now: float = 0.0) -> float | None:
    """Return the pause after the shortest form was refused."""
    while True:
        refused = publication.receipt
        pause = publication.failed(too_large(refused), now, CHANCE)
        if publication.receipt is refused:
            return pause


def test_shortest_form_is_given_up_after_the_bound_where_the_topic_takes_others() -> None:
    topic = Topic()
    publication = topic.of(large())
    assert refuse_all_forms(publication)
    topic.taken += 1
    error = too_large(publication.receipt)
    assert publication.failed(error, 599.9, CHANCE) is not None
    assert publication.failed(error, 600.0, CHANCE) is None


def test_shortest_form_waits_where_the_topic_takes_nothing() -> None:
    topic = Topic()
    topic.taken = 7  # before
    publication = topic.of(replace(RECEIPT, status=Status.FAILED, stored=None, problem=PROBLEM))
    assert refuse_all_forms(publication)
    assert publication.failed(too_large(publication.receipt), 100_000.0, CHANCE) is not None
    topic.taken += 1
    assert publication.failed(too_large(publication.receipt), 100_001.0, CHANCE) is None


@pytest.mark.parametrize("receipt", [RECEIPT, large()])
def test_retrying_receipt_is_given_up_as_soon_as_its_shortest_form_is_refused(
    receipt: Receipt,
) -> None:
    late = replace(receipt, status=Status.RETRYING, stored=None, problem=PROBLEM)
    assert refuse_all_forms(Topic().of(late)) is None
