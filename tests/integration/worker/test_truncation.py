"""A log that has lost records and has grown beyond the group's offset before a worker reads it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_app.embedded.servers import KafkaServer, S3Server
from tests.chaos.harness import in_a_loop
from tests.integration.worker.test_undecodable import lab_of, send, until_delivered

TRUNCATED = "the log has lost records before offset"
BEGUN_ANEW = "begun anew at offset 0"


@pytest.fixture
def lossy_kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    with KafkaServer(tmp_path / "kafka") as server:
        yield server


@pytest.mark.parametrize("meanwhile", ["no worker", "a worker that was stopped"])
@in_a_loop
async def test_events_of_a_log_that_was_lost_and_grew_past_the_offset_are_delivered(
    lossy_kafka: KafkaServer, s3: S3Server, tmp_path: Path, meanwhile: str
) -> None:
    async with lab_of(lossy_kafka, s3, tmp_path) as lab:
        worker = await lab.start_worker()
        await send(lab, 0, "before", 10)
        await until_delivered(lab, "before", 10)
        if meanwhile == "a worker that was stopped":
            worker.pause()
        else:
            await worker.terminate()
        await lab.lose_log(lossy_kafka)
        await send(lab, 0, "after", 30)
        if meanwhile == "a worker that was stopped":
            worker.resume()
        else:
            worker = await lab.start_worker()
        await until_delivered(lab, "after", 30)
        await send(lab, 0, "later", 5)
        await until_delivered(lab, "later", 5)
        assert worker.log.count(TRUNCATED) == worker.log.count(BEGUN_ANEW) == 1
        assert "ERROR crash" not in worker.log
        await worker.terminate()
        # Its own commits name the new epoch: a successor goes on.
        successor = await lab.start_worker()
        await send(lab, 0, "last", 5)
        await until_delivered(lab, "last", 5)
        assert TRUNCATED not in successor.log
