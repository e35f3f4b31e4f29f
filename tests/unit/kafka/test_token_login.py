import asyncio
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from stream_app.errors import SetupError
from stream_app.kafka.login_tokens import RETRY_SECONDS, LoginToken
from stream_app.kafka.token_login import TokenError, TokenProvider, token_provider
from tests.unit.kafka.test_login_tokens import OIDC

SECONDS_MAX = 60.0


@dataclass
class Source:
    """Source of tokens that live for 100 seconds, under a clock that the test sets."""

    now: float = 0.0
    errors: Iterator[str | None] = field(default_factory=lambda: iter(()))
    """Of the requests, in their order; None, and after the last one: a token."""
    threads: list[str] = field(default_factory=list)
    """Name of the thread of each request."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Closed while a test holds requests up."""

    def __post_init__(self) -> None:
        self.gate.set()

    def request(self) -> LoginToken:
        self.threads.append(threading.current_thread().name)
        assert self.gate.wait(SECONDS_MAX)
        error = next(self.errors, None)
        if error is not None:
            raise SetupError(error)
        return LoginToken(f"token-{len(self.threads)}", self.now, 100)

    def provider(self) -> TokenProvider:
        return TokenProvider("oidc", self.request, lambda: self.now)


def test_token_is_requested_once_for_many_clients_and_in_a_thread_of_its_own() -> None:
    source = Source()
    source.gate.clear()
    provider = source.provider()
    waiting = threading.Barrier(2, source.gate.set, SECONDS_MAX)

    async def scenario() -> list[str]:
        clients = [asyncio.create_task(provider.token()) for _ in range(20)]
        await asyncio.sleep(0)  # each of them waits for a token then
        waiting.wait()
        return await asyncio.gather(*clients)

    # Worker and fetch thread have a loop each.
    other = threading.Thread(target=asyncio.run, args=(scenario(),))
    other.start()
    assert set(asyncio.run(scenario())) == {"token-1"}
    other.join()
    assert source.threads == ["login-token_0"]


def test_token_is_renewed_at_four_fifths_of_its_life(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stream_app")
    source = Source()
    provider = source.provider()
    found = []
    for source.now in (0, 79, 80, 159, 160):
        found.append(asyncio.run(provider.token()))
    assert found == ["token-1", "token-1", "token-2", "token-2", "token-3"]
    assert caplog.messages == ["new token for Kafka from oidc, valid for 100 s"] * 3


def test_old_token_is_used_while_no_new_one_can_be_got(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(errors=iter([None, "no answer", "no answer"]))
    provider = source.provider()
    found = []
    for source.now in (0, 81, 82, 81 + RETRY_SECONDS, 87 + RETRY_SECONDS):
        found.append(asyncio.run(provider.token()))
    assert found == ["token-1"] * 4 + ["token-4"]
    assert caplog.messages == [
        "the old token for Kafka from oidc stays, valid for 19 s more: no answer",
        "the old token for Kafka from oidc stays, valid for 14 s more: no answer",
    ]


def test_without_a_valid_token_the_reason_is_raised_without_a_request_each_time() -> None:
    source = Source(errors=iter(["no answer", "still none"]))
    provider = source.provider()
    for source.now, expected in ((0, "no answer"), (1, "no answer"), (6, "still none")):
        with pytest.raises(TokenError, match=expected) as caught:
            asyncio.run(provider.token())
        assert caught.value.retriable
    assert len(source.threads) == 2


def test_refused_token_is_replaced_by_another_one() -> None:
    source = Source()
    provider = source.provider()
    refused = asyncio.run(provider.valid_token())
    provider.refuse(refused)
    assert asyncio.run(provider.valid_token()) == refused
    source.now = RETRY_SECONDS
    assert asyncio.run(provider.token()) == "token-2"


def test_clients_of_one_login_share_their_tokens() -> None:
    assert token_provider(OIDC) is token_provider(replace(OIDC))
    assert token_provider(OIDC) is not token_provider(replace(OIDC, sasl_oidc_scope="other"))
