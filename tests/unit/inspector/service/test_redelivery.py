"""Runs of `stream-app redeliver` are bounded: one at a time, its newest lines, no run unallowed."""

import asyncio
import logging
import os

import pytest

from stream_app import log_events
from stream_app.inspector.service import redelivery
from stream_app.inspector.service.redelivery import (
    LINE_LENGTH_MAX,
    LINES_MAX,
    RedeliveryForbiddenError,
    RedeliveryRunningError,
    RedeliveryRuns,
)


async def ended(runs: RedeliveryRuns) -> dict[str, object]:
    while (run := runs.document()["run"])["ended_at"] is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    found: dict[str, object] = run
    return found


def test_run_is_the_command_with_its_output_and_status(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    runs = RedeliveryRuns(os.environ, is_allowed=True)

    async def scenario() -> None:
        runs.start("orders", ["redeliver", "--no-such-option"], "127.0.0.1")
        with pytest.raises(RedeliveryRunningError, match="another redelivery runs already"):
            runs.start("orders", ["redeliver"], "127.0.0.1")
        run = await ended(runs)
        assert (run["destination"], run["status"]) == ("orders", 2)
        assert "no-such-option" in str(run["lines"])
        runs.start("other", ["redeliver", "--help"], "127.0.0.1")
        run = await ended(runs)
        assert (run["destination"], run["status"]) == ("other", 0)
        assert "Usage:" in str(run["lines"])

    asyncio.run(scenario())
    events = [getattr(it, "log_event", None) for it in caplog.records]
    assert events == [log_events.REDELIVERY_STARTED, log_events.REDELIVERY_ENDED] * 2
    assert "from 127.0.0.1: stream-app redeliver --no-such-option" in caplog.text
    assert "ended with status 2" in caplog.text


def test_output_is_bounded_and_printable(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; w = sys.stdout.write; w('x' * 300_000 + '\\n'); "
    program += "[w(f'line {it}\\x1b\\n') for it in range(1_000)]; w('last')"
    monkeypatch.setattr(redelivery, "COMMAND", ("-c", program))
    runs = RedeliveryRuns(os.environ, is_allowed=True)

    async def scenario() -> None:
        runs.start("orders", [], "127.0.0.1")
        run = await ended(runs)
        lines = run["lines"]
        assert isinstance(lines, list)
        assert len(lines) == LINES_MAX
        assert lines[-2:] == ["line 999\\x1b", "last"]
        assert max(map(len, lines)) <= LINE_LENGTH_MAX

    asyncio.run(scenario())


def test_run_ends_with_the_inspector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redelivery, "COMMAND", ("-c", "import time; time.sleep(3600)"))
    runs = RedeliveryRuns(os.environ, is_allowed=True)

    async def scenario() -> None:
        await runs.aclose()
        runs.start("orders", [], "127.0.0.1")
        while runs._process is None:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        await runs.aclose()
        assert runs.document()["run"]["status"] == -15

    asyncio.run(scenario())


def test_command_that_cannot_be_started_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redelivery.sys, "executable", "/no/such/program")
    runs = RedeliveryRuns(os.environ, is_allowed=True)

    async def scenario() -> None:
        runs.start("orders", [], "127.0.0.1")
        run = await ended(runs)
        assert (run["status"], run["lines"]) == (
            -1,
            ["the command cannot be started: No such file or directory"],
        )

    asyncio.run(scenario())


def test_nothing_runs_unless_it_is_allowed() -> None:
    runs = RedeliveryRuns(os.environ, is_allowed=False)
    with pytest.raises(RedeliveryForbiddenError, match="--allow-redeliver"):
        runs.start("orders", ["redeliver"], "127.0.0.1")
    assert runs.document() == {"allowed": False, "run": None}
