"""Publication of one receipt: which form of it is sent next, and when it is given up. Pure.

Kafka's refusals pass with time, with one exception: a receipts topic that takes no message of this
size. Then the receipt is shortened until the topic takes it. Where it refuses the shortest form,
the window is settled without a receipt in the end: otherwise one destination would hold up the
commit of its partition, and after some hundred windows all other destinations of it.
"""

from collections.abc import Callable

from stream_app.core.receipt import Receipt, Status
from stream_app.core.retry_policy import RetryPolicy
from stream_app.errors import DeliveryError, TooLargeError


class Publication:
    """Attempts to publish one receipt.

    Args:
        receipt: The whole receipt.
        policy: How long to retry.
        published: Returns how many receipts of this worker the topic has taken so far.
    """

    def __init__(self, receipt: Receipt, policy: RetryPolicy, published: Callable[[], int]) -> None:
        self.receipt = receipt
        """The form that is sent next."""
        self.attempts = 0
        """Number of attempts that failed."""
        self._policy = policy
        self._published = published
        self._refused_at: float | None = None
        """Time of the first refusal of the shortest form."""
        self._published_then = 0

    def failed(self, error: DeliveryError, now: float, chance: float) -> float | None:
        """Record that an attempt failed.

        Args:
            error: Why.
            now: The present, in seconds of a monotonic clock.
            chance: A number from 0 up to 1.

        Returns:
            Seconds until the next attempt; None: the receipt is given up. A `retrying` receipt is,
            as soon as its shortest form is refused; any other one after the policy's bound, if the
            topic takes other receipts meanwhile. Where it takes none, all wait for an operator.
        """
        self.attempts += 1
        if isinstance(error, TooLargeError):
            shorter = self.receipt.shortened(error.size // 2)
            if shorter is not None:
                self.receipt = shorter
                return 0.0
            if self.receipt.status is Status.RETRYING:
                return None
            if self._refused_at is None:
                self._refused_at, self._published_then = now, self._published()
            is_over = now - self._refused_at >= self._policy.bound(error)
            if is_over and self._published() > self._published_then:
                return None
        return self._policy.pause(error, self.attempts, chance)
