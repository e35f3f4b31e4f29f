"""Summaries of all destinations are computed once for all pages, and again only where needed."""

import asyncio
import threading
from pathlib import Path

import orjson
import pytest

from stream_app.core.receipt import Status
from stream_app.inspector.core.health import failing_of
from stream_app.inspector.core.index import EventStatus
from stream_app.inspector.service import summaries as module
from stream_app.inspector.service.config_watcher import ConfigWatcher
from stream_app.inspector.service.summaries import SummaryCache
from tests.unit.inspector.core.messages import index, publish, receipt
from tests.unit.samples import MINUTE


@pytest.fixture
def config(tmp_path: Path) -> ConfigWatcher:
    file = tmp_path / "stream_app.toml"
    file.write_text('[[destinations]]\nid = "archive"\nbucket = "my-bucket"\npipeline = "orders"\n')
    return ConfigWatcher(str(file), {}, lambda: None)


def test_summaries_are_shared_until_they_are_old(config: ConfigWatcher) -> None:
    receipts, now = index(receipt(0, 10)), [MINUTE + 90.0]
    cache = SummaryCache(receipts, config, lambda: now[0])

    async def scenario() -> None:
        first = await cache.get()
        publish(receipts, receipt(10, 20, status=Status.FAILED))
        assert await cache.get() is first
        now[0] += module.SUMMARIES_SECONDS
        second = await cache.get()
        assert [it.id for it in failing_of(second.briefs)] == ["archive"]
        (shown,) = orjson.loads(second.document)["destinations"]
        assert (shown["state"], shown["configured"]) == ("failed", True)
        assert [it["count"] for it in await cache.errors(None, None)] == [10]
        assert await cache.errors(EventStatus.RETRYING, "archive") == []

    asyncio.run(scenario())


def test_former_summaries_are_given_while_new_ones_take_long(
    config: ConfigWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts, now = index(receipt(0, 10)), [MINUTE + 90.0]
    cache = SummaryCache(receipts, config, lambda: now[0])
    may_go_on = threading.Event()
    may_go_on.set()
    compute = SummaryCache._summaries

    def slow(*arguments: object) -> object:
        may_go_on.wait()
        return compute(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(SummaryCache, "_summaries", slow)

    async def scenario() -> None:
        first = await cache.get()
        may_go_on.clear()
        now[0] += module.SUMMARIES_SECONDS
        assert await cache.get() is first
        assert await cache.get() is first
        may_go_on.set()
        while await cache.get() is first:
            pass  # Each call waits for the new ones.

    asyncio.run(scenario())


def test_only_destinations_that_changed_are_summarized_again(
    config: ConfigWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts, now = index(receipt(0, 10), receipt(0, 10, destination="gone")), [MINUTE + 90.0]
    cache = SummaryCache(receipts, config, lambda: now[0])
    summarized: list[object] = []
    summary = module.destination_summary

    def counted(id_: str, *arguments: object, **options: object) -> object:
        summarized.append(id_)
        return summary(id_, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "destination_summary", counted)

    async def scenario() -> None:
        await cache.get()
        assert summarized == ["archive", "gone"]
        publish(receipts, receipt(10, 20))
        now[0] += 2 * module.SUMMARIES_SECONDS
        await cache.get()
        assert summarized[2:] == ["archive"]
        now[0] += 60
        await cache.get()
        assert summarized[3:] == ["archive", "gone"], "another minute"

    asyncio.run(scenario())


def test_errors_are_grouped_again_when_receipts_come_and_only_so_many_are_cached(
    config: ConfigWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts = index(receipt(0, 10, failed=[1]), receipt(0, 10, failed=[1], destination="gone"))
    cache = SummaryCache(receipts, config, lambda: MINUTE + 90.0)
    grouped: list[str] = []
    errors = module.DestinationReceipts.errors

    def counted(it: module.DestinationReceipts, status: EventStatus | None) -> object:
        grouped.append(it.id)
        return errors(it, status)

    monkeypatch.setattr(module.DestinationReceipts, "errors", counted)
    monkeypatch.setattr(module, "CACHED_ERRORS_MAX", 2)

    async def scenario() -> None:
        for _ in range(2):
            (group,) = await cache.errors(None, None)
            assert (group["count"], group["destinations"]) == (2, ["archive", "gone"])
        assert grouped == ["archive", "gone"]
        publish(receipts, receipt(10, 20, failed=[11]))
        assert [it["count"] for it in await cache.errors(None, "archive")] == [2]
        assert grouped[2:] == ["archive"]
        await cache.errors(EventStatus.FAILED, "archive")
        await cache.errors(None, "gone")
        assert grouped[3:] == ["archive", "gone"], "the least recently used was evicted"

    asyncio.run(scenario())
