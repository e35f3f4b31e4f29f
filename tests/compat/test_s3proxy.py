"""S3Proxy, a server that nobody here wrote: the one of `make compat` that is in `make test`."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_app.embedded.servers import KafkaServer
from tests.compat.stores import Store, new_store
from tests.compat.trial import BUCKET, checked, deliver, new_lab


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    server = new_store("s3proxy")
    assert isinstance(server, Store)
    with server:
        yield server


def test_events_are_delivered_once_under_kill_minus_9(
    kafka: KafkaServer, store: Store, tmp_path: Path
) -> None:
    async def deliveries() -> None:
        async with new_lab(kafka.address, store, tmp_path) as lab:
            found = await deliver(lab)
            assert (found.lost, found.repeated, found.written_again) == (0, 0, 0)
            assert found.found_again > 0
            assert lab.proxy.accepted_parts()
            await lab.verify()

    asyncio.run(deliveries())


def test_check_says_what_is_known_of_the_server(store: Store, tmp_path: Path) -> None:
    store.create_bucket(BUCKET)
    found = checked(store, tmp_path, [])
    assert {it: one["found"] for it, one in found.items() if one["result"] == "failed"} == {}
    refused = ["sse", "tags"]
    found = checked(store, tmp_path, refused)
    assert found["write"]["setting"] == "change or remove sse, tags"
