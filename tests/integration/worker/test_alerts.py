"""Alerts of the documents in a real Prometheus that scrapes a real worker."""

import asyncio
import time
from pathlib import Path

from stream_app.core.commit_metadata import Commit
from stream_app.embedded.process import HOST, free_ports
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.monitoring.http import MonitoringServer
from stream_app.monitoring.metrics import readings
from stream_app.monitoring.prometheus import Exposition
from stream_app.records import TopicPartition
from tests.chaos.harness import Lab, in_a_loop, wait_until
from tests.chaos.oracle import Target
from tests.integration.worker.test_monitoring import address_of, asked
from tests.prometheus_server import PrometheusServer, needs_prometheus
from tests.unit.core.builders import EVENTS
from tests.unit.monitoring.test_metrics import HEALTH, World

SCRAPED_SECONDS_MAX = 60.0
HALF = Target("half", "half/", payload="$event.n % 2 ? $event.no.such : $event", pipeline="orders")
MISSING = '[[destinations]]\nid = "missing"\nbucket = "no-such-bucket"\npipeline = "signups"\n'
CAUSED = {"StreamAppEventsUnmatched", "StreamAppDestinationFailing", "StreamAppWindowsGivenUp"}
SET = {
    "StreamAppLogTruncated": "firing",
    "StreamAppPartitionHeldBack": "firing",
    "StreamAppTransactionOpen": "pending",  # for some minutes
    "StreamAppReceiptsStuck": "pending",
}


@needs_prometheus
@in_a_loop
async def test_events_of_no_destination_failed_events_and_given_up_windows_alert(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    settings = "give_up_after_seconds = 2"
    async with Lab(kafka.address, s3, tmp_path, targets=[HALF], settings=settings) as lab:
        with lab.configuration.open("a") as file:
            file.write(MISSING)
        worker = await lab.start_worker()
        address = await address_of(worker)
        server = PrometheusServer([address.removeprefix("http://")], tmp_path / "prometheus")
        await asyncio.to_thread(server.start)
        try:
            await scraped(server, "stream_app_unmatched_events_total", 0)
            assert set(server.rules().values()) == {"ok"}
            assert not CAUSED & server.alerts().keys()
            for _ in range(3):
                await lab.load.send_raw(b"{}", pipeline="ordres")
            await lab.load.send(20, pipeline="orders")
            await lab.load.send(20, pipeline="signups")

            async def has_warnings() -> bool:
                answer = await asked(address, "/health/ready")
                assert answer.status == 200, answer.body
                return (
                    b'"destination half: ' in answer.body
                    and b'"no destination takes the key of ' in answer.body
                )

            await wait_until(has_warnings, SCRAPED_SECONDS_MAX, "the worker has two warnings")
            await alerted(server, dict.fromkeys(CAUSED, "firing"))
        finally:
            await asyncio.to_thread(server.stop)
        await worker.logged("destination half is failing: ")
        await worker.logged(
            "with the key 'ordres': no destination takes it (nearest pipeline: 'orders'); "
        )
        await lab.settled()
        given_up = [it.value for it in await lab.read_receipts() if it.value["status"] == "failed"]
        assert sum(it["counts"]["delivered"] for it in given_up) == 20
        text = (await asked(address, "/metrics")).body.decode()
        assert 'outcomes_total{destination="missing",outcome="delivered"} 0.0' in text
        assert 'outcomes_total{destination="missing",outcome="given_up"} 20.0' in text
        assert 'line_bytes_total{destination="missing"} 0.0' in text


@needs_prometheus
@in_a_loop
async def test_states_that_are_hard_to_cause_alert(tmp_path: Path) -> None:
    """The metrics are those of a worker whose state is set."""
    world, exposition = World(), Exposition()
    world.hold(Commit(10, ()))
    world.log_ends = {EVENTS: 10}

    async def metrics(accept: str | None) -> tuple[bytes, str]:
        return exposition.encode(readings(world.sources(), HEALTH, time.time()), accept)

    worker = MonitoringServer(metrics, {})
    address = await worker.listen(HOST, *free_ports(1))
    assert address is not None
    server = PrometheusServer([address.removeprefix("http://")], tmp_path / "prometheus")
    try:
        await asyncio.to_thread(server.start)
        await scraped(server, "stream_app_log_truncated_total", 0)
        assert not SET.keys() & server.alerts().keys()
        world.counts.truncated_logs += 1
        world.assignment.held_back.add(TopicPartition("events", 4))
        world.counts.receipt_failed("id", "ReceiptTimeout", 0.0)
        world.high_watermarks = {EVENTS: 110}
        for now in (0.0, 1_000.0):
            world.open_transactions.check(now, world.log_ends, world.high_watermarks)
        await alerted(server, SET)
    finally:
        await asyncio.to_thread(server.stop)
        await worker.close()


async def scraped(server: PrometheusServer, metric: str, value: float) -> None:
    """Return once a metric was scraped with this value."""

    async def is_there() -> bool:
        return await asyncio.to_thread(server.values, metric) == [value]

    await wait_until(is_there, SCRAPED_SECONDS_MAX, f"{metric} is scraped")


async def alerted(server: PrometheusServer, states: dict[str, str]) -> None:
    """Return once these alerts have these states."""

    async def are_active() -> bool:
        return states.items() <= (await asyncio.to_thread(server.alerts)).items()

    await wait_until(are_active, SCRAPED_SECONDS_MAX, f"alerts {states}")
