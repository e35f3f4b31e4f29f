"""Metrics and health of real workers, asked over HTTP as Prometheus and Kubernetes ask."""

import asyncio
import json
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from stream_app.embedded.servers import KafkaServer, S3Server, free_ports
from stream_app.monitoring.health import STALLED_SECONDS_MAX
from stream_app.monitoring.http import PORTS_MAX, SCRAPES_MAX, MonitoringServer
from stream_app.monitoring.metrics import METRICS
from tests.chaos.harness import (
    LONG_SESSION_SECONDS,
    SESSION_SECONDS,
    SETTLED_SECONDS_MAX,
    START_SECONDS_MAX,
    TARGETS,
    Lab,
    Worker,
    in_a_loop,
    wait_until,
)
from tests.chaos.oracle import Published, Target

EVERYTHING = Target("everything", "everything/")
PROBE_SECONDS_MAX = 60.0
NONE_LEFT = ("windows_open", "windows_unsettled", "deliveries_pending", "closings_pending")
PREFIX = "stream_app_"


class Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


Scrape = dict[str, dict[tuple[tuple[str, str], ...], float]]
"""Values by labels, by the name of the sample without our prefix."""


def ask(
    address: str,
    path: str,
    seconds_max: float = PROBE_SECONDS_MAX,
    method: str = "GET",
    **headers: str,
) -> Answer:
    url = address + path
    request = urllib.request.Request(url, headers=headers, method=method)  # noqa: S310 - our own
    try:
        with urllib.request.urlopen(request, timeout=seconds_max) as answer:  # noqa: S310 - our own
            return Answer(answer.status, answer.headers["Content-Type"], answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers["Content-Type"], error.read())


async def asked(address: str, path: str, **headers: str) -> Answer:
    return await asyncio.to_thread(ask, address, path, **headers)


async def verdict(address: str, what: str) -> tuple[bool, list[str]]:
    """Return what /health/WHAT says, and its reasons; the status must say the same."""
    answer = await asked(address, f"/health/{what}")
    body = json.loads(answer.body)
    assert answer.content_type.startswith("application/json")
    assert answer.status == (200 if body[what] else 503)
    assert bool(body["reasons"]) is not body[what]
    return body[what], body["reasons"]


async def until_ready(address: str) -> None:
    """Return once the worker is ready; a health check shows the last look at each part."""

    async def is_ready() -> bool:
        return (await verdict(address, "ready"))[0]

    await wait_until(is_ready, START_SECONDS_MAX, "ready")


async def scraped(address: str) -> Scrape:
    answer = await asked(address, "/metrics")
    assert answer.status == 200, answer.body
    found: Scrape = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            name = sample.name.removeprefix(PREFIX)
            found.setdefault(name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(scrape: Scrape, name: str, **labels: str) -> float:
    return sum(
        value
        for found, value in scrape.get(name, {}).items()
        if labels.items() <= dict(found).items()
    )


async def address_of(worker: Worker) -> str:
    """Return where a worker says that it can be watched."""
    await worker.logged("ready: ")
    found = re.search(r"ready: .*?(http://[\w.:]+)", worker.log)
    assert found, worker.log
    return found[1]


def recorded(receipts: list[Published], status: str, count: str, destination: str) -> int:
    return sum(
        it.value["counts"][count]
        for it in receipts
        if it.value["destination"] == destination and it.value["status"] == status
    )


@in_a_loop
async def test_what_is_counted_adds_up_with_the_receipts(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(
        kafka.address, s3, tmp_path, partitions=2, session_seconds=LONG_SESSION_SECONDS
    ) as lab:
        address = await address_of(await lab.start_worker())
        before = await scraped(address)
        assert total(before, "events_total") == 0
        assert before["receipt_delay_seconds_count"] == {(): 0.0}
        await lab.load.send(300)
        await lab.settled()
        receipts = await lab.published(1)

        async def has_responses() -> bool:
            # The broker has the last commit, and the worker may not know that yet.
            seen = await scraped(address)
            counts = [total(seen, it) for it in (*NONE_LEFT, "lag_offsets", "unread_offsets")]
            return not any(counts) and total(seen, "last_commit_timestamp_seconds") > 0

        await wait_until(has_responses, SETTLED_SECONDS_MAX, "its last commit has its response")
        after = await scraped(address)
        assert total(after, "events_total") == 300
        for target in TARGETS:
            for outcome in ("delivered", "skipped", "failed"):
                seen = total(after, "outcomes_total", destination=target.id, outcome=outcome)
                assert seen == sum(
                    recorded(receipts, status, outcome, target.id)
                    for status in ("delivered", "empty")
                ), (target.id, outcome)
            objects = [
                it.value["object"]
                for it in receipts
                if it.value["destination"] == target.id and it.value["object"]
            ]
            mine = {"destination": target.id}
            assert total(after, "objects_total", **mine) == len(objects) > 0
            assert total(after, "object_bytes_total", **mine) == sum(it["size"] for it in objects)
            assert total(after, "line_bytes_total", **mine) == sum(
                it["uncompressed_size"] for it in objects
            )
        assert total(after, "receipts_total") == len(receipts)
        assert total(after, "receipt_delay_seconds_count") == len(receipts)
        # Commits are watched: their loop comes round again and again, also when none is due.
        began, seconds = time.monotonic(), {}

        async def has_come_round() -> bool:
            seconds.update(json.loads((await asked(address, "/health/live")).body)["seconds"])
            return bool(0 <= seconds["commit_loop_came_round"] < time.monotonic() - began)

        await wait_until(has_come_round, SETTLED_SECONDS_MAX, "the loop of the commits comes round")
        assert seconds["kafka_coordinator_known"] > 0
        assert seconds["commits_due"] is None
        assert 0 <= seconds["loop_stalled"] <= STALLED_SECONDS_MAX
        # Everything has receipts, so nothing is under way, and no lag is left.
        for name in NONE_LEFT:
            assert total(after, name) == 0, name
        assert total(after, "oldest_undelivered_age_seconds") == 0
        assert total(after, "partitions_read_back") == total(after, "partitions_assigned") == 2
        assert set(after["lag_offsets"].values()) == {0.0}
        assert set(after["unread_offsets"].values()) == {0.0}
        assert total(after, "commits_total") > 0
        assert abs(total(after, "last_commit_timestamp_seconds") - time.time()) < 300
        ((_, skew),) = after["s3_clock_skew_seconds"].items()
        assert abs(skew) < 60, "a response may be a while on its way, but hours are a time zone's"
        assert total(after, "memory_max_bytes") == 192 * 1024 * 1024
        assert after["live"] == after["ready"] == {(): 1.0}
        assert total(after, "process_cpu_seconds_total") > 0


@in_a_loop
async def test_every_declared_metric_is_served_in_both_formats_and_no_other(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path) as lab:
        address = await address_of(await lab.start_worker())
        plain = await asked(address, "/metrics")
        assert plain.content_type.startswith("text/plain; version=")
        accept = "application/openmetrics-text; version=1.0.0"
        other = await asked(address, "/metrics", Accept=accept)
        assert other.content_type.startswith("application/openmetrics-text")
        for families, ending in (
            (list(text_string_to_metric_families(plain.body.decode())), ""),
            (list(openmetrics(other.body.decode())), ""),
        ):
            served = {
                f"{it.name}{'_total' if it.type == 'counter' else ''}{ending}": (
                    it.type,
                    it.documentation,
                )
                for it in families
                if it.name.startswith(PREFIX)
            }
            assert served == {it.name: (str(it.kind), it.help) for it in METRICS}
        assert (await asked(address, "/elsewhere")).status == 404


@in_a_loop
async def test_failing_bucket_shows_attempts_age_and_a_broken_destination(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    targets = (EVERYTHING, Target("homeless", "homeless/"))
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=targets) as lab:
        configuration = lab.configuration.read_text("utf-8")
        before, homeless, after = configuration.partition('id = "homeless"')
        bucket = f'bucket = "{lab.bucket}"'
        lab.configuration.write_text(
            before + homeless + after.replace(bucket, 'bucket = "nowhere"')
        )
        lab.load.at_ms = int(time.time() * 1000)  # one window, whenever they are sent
        await lab.load.send(10)
        worker = await lab.start_worker()
        address = await address_of(worker)
        mine = {"destination": "homeless"}

        async def broken() -> bool:
            return total(await scraped(address), "destination_circuit_open", **mine) == 1

        await wait_until(broken, SETTLED_SECONDS_MAX, "three failed attempts")
        seen = await scraped(address)
        assert total(seen, "failed_attempts_total", **mine) >= 3
        assert total(seen, "oldest_undelivered_age_seconds", **mine) > lab.window_seconds
        assert total(seen, "oldest_undelivered_age_seconds", destination="everything") == 0
        assert total(seen, "destination_circuit_open", destination="everything") == 0
        assert total(seen, "deliveries_pending") == total(seen, "windows_unsettled") == 1
        assert total(seen, "lag_offsets", partition="0") == 10
        assert total(seen, "unread_offsets", partition="0") == 0
        assert total(seen, "memory_held_bytes") > 0
        # S3 refusing is no reason to start anew.
        assert await verdict(address, "live") == (True, [])
        assert await verdict(address, "ready") == (True, [])
        await worker.terminate()
        soon = {"STREAM_APP_DELIVERY_GIVE_UP_AFTER_SECONDS": "1"}
        address = await address_of(lab.launch_worker(environment=soon))
        await lab.settled()

        async def is_settled() -> bool:
            return total(await scraped(address), "windows_unsettled") == 0

        await wait_until(is_settled, SETTLED_SECONDS_MAX, "its last commit has its response")
        seen = await scraped(address)
        assert total(seen, "outcomes_total", outcome="given_up", **mine) == 10
        assert total(seen, "outcomes_total", **mine) == 10
        assert total(seen, "receipts_total", status="failed") == 1
        assert total(seen, "oldest_undelivered_age_seconds", **mine) == 0
        assert total(seen, "objects_total", **mine) == 0


@in_a_loop
async def test_workers_of_one_machine_have_a_port_each(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1) as lab:
        addresses = [await address_of(it) for it in await lab.start_workers(2)]
        assert len(set(addresses)) == 2

        async def both_ready() -> bool:
            return all([(await verdict(it, "ready"))[0] for it in addresses])

        async def one_has_the_partition() -> bool:
            return sum([total(await scraped(it), "partitions_assigned") for it in addresses]) == 1

        # The one without a partition is ready as well: it is a member.
        await wait_until(both_ready, START_SECONDS_MAX, "two members of the group")
        await wait_until(one_has_the_partition, START_SECONDS_MAX, "an owner of the partition")


@in_a_loop
async def test_worker_without_a_free_port_says_so_once_and_delivers(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path) as lab:
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            # A privileged port ends the search at once; the highest one has none behind it.
            worker = lab.launch_worker(environment={"STREAM_APP_HTTP_BIND": "192.0.2.1"})
            await worker.logged("ready: ")
            assert worker.log.count("no metrics and health") == 1
            assert "cannot listen on 192.0.2.1:" in worker.log
            await worker.terminate()
            silent = lab.launch_worker(environment={"STREAM_APP_HTTP_PORT": "0"})
            await silent.logged("metrics and health: none")
            assert "no metrics and health" not in silent.log
            await silent.terminate()
            other = lab.launch_worker(environment={"STREAM_APP_HTTP_PORT": str(port)})
            found = re.search(r":(\d+)$", await address_of(other))
            assert found
            assert port < int(found[1]) < port + PORTS_MAX
        await lab.load.send(30)
        await lab.settled()
        await lab.verify()


@in_a_loop
async def test_all_ports_taken_is_one_warning(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path) as lab:
        with closing(_last_port()):
            worker = lab.launch_worker(environment={"STREAM_APP_HTTP_PORT": "65535"})
            await worker.logged("metrics and health: none")
        assert worker.log.count("no metrics and health") == 1
        assert "ports 65535 to 65535 of 127.0.0.1 are in use" in worker.log
        await lab.load.send(30)
        await lab.settled()
        await lab.verify()


def _last_port() -> socket.socket:
    return socket.create_server(("127.0.0.1", 65535))


SILENT_SESSION_SECONDS = 120
"""More than a second worker takes to start and to be asked on any machine."""


@in_a_loop
async def test_worker_that_still_waits_for_the_group_says_so(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(
        kafka.address, s3, tmp_path, partitions=1, session_seconds=SILENT_SESSION_SECONDS
    ) as lab:
        first = await lab.start_worker()
        await lab.load.send(10)
        await lab.settled()
        # The broker lets nobody in until the session of a member that says nothing is over.
        first.pause()
        address = f"http://127.0.0.1:{free_ports(1)[0]}"
        port = address.rpartition(":")[2]
        second = lab.launch_worker(environment={"STREAM_APP_HTTP_PORT": port})

        async def answers() -> bool:
            try:
                await asked(address, "/health/live")
            except urllib.error.URLError:
                return False
            return True

        await wait_until(answers, START_SECONDS_MAX, "an answer")
        assert await verdict(address, "live") == (True, [])
        assert await verdict(address, "ready") == (
            False,
            [
                "the worker has not started yet",
                "the worker is not a member of the group: it is joining, or Kafka is unreachable",
            ],
        )
        assert total(await scraped(address), "ready") == 0
        assert "ready: " not in second.log
        first.resume()
        await second.logged("ready: ")

        await until_ready(address)


@in_a_loop
async def test_worker_lives_while_kafka_is_away_and_is_ready_when_it_is_back(
    own_kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(own_kafka.address, s3, tmp_path, partitions=1) as lab:
        address = await address_of(await lab.start_worker())
        await lab.load.send(10)
        await lab.settled()
        assert await verdict(address, "ready") == (True, [])
        await asyncio.to_thread(own_kafka.kill)

        async def is_away() -> bool:
            return not (await verdict(address, "ready"))[0]

        await wait_until(is_away, SETTLED_SECONDS_MAX, "503 while Kafka is away")
        (reason,) = (await verdict(address, "ready"))[1]
        assert reason.startswith(
            ("Kafka's coordinator has been unknown for", "Kafka has not responded for 1 partition:")
        ), reason
        await lives_on(address, SESSION_SECONDS + 2)  # longer than its session
        assert not (await verdict(address, "ready"))[0]
        await asyncio.to_thread(own_kafka.start)
        await lab.load.send(10)
        await lab.settled()
        await until_ready(address)
        assert await verdict(address, "live") == (True, [])


async def lives_on(address: str, seconds: float) -> None:
    """Fail unless the worker lives for so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert await verdict(address, "live") == (True, [])
        await asyncio.sleep(0.5)


@in_a_loop
async def test_stopped_worker_answers_nothing_and_is_not_live_for_a_while_after(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    async with Lab(kafka.address, s3, tmp_path, partitions=1) as lab:
        launched = time.monotonic()
        worker = await lab.start_worker()
        address = await address_of(worker)
        assert await verdict(address, "live") == (True, [])
        worker.pause()
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(ask, address, "/health/live", STALLED_SECONDS_MAX + 2)
        worker.resume()
        is_live, reasons = await verdict(address, "live")
        assert not is_live
        found = re.match(r"the event loop stood still for (\d+) of the last 60 s$", reasons[0])
        assert found
        # A loaded machine may have held it up before, and does so afterwards.
        assert STALLED_SECONDS_MAX < int(found[1]) <= time.monotonic() - launched
        seen = await scraped(address)
        assert seen["live"] == {(): 0.0}
        lag = total(seen, "event_loop_lag_seconds_total")
        assert STALLED_SECONDS_MAX < lag < time.monotonic() - launched
        # The worker lost its partitions meanwhile, takes them back, and delivers as before.
        await lab.load.send(30)
        await lab.settled()
        await lab.verify()


@in_a_loop
async def test_reload_state_is_reported(kafka: KafkaServer, s3: S3Server, tmp_path: Path) -> None:
    async with Lab(kafka.address, s3, tmp_path, targets=(EVERYTHING,)) as lab:
        worker = await lab.start_worker()
        address = await address_of(worker)
        right = lab.configuration.read_text("utf-8")

        async def shows(expected: Callable[[Scrape], bool], text: str) -> Scrape:
            lab.configuration.write_text(text)
            worker.process.send_signal(signal.SIGHUP)
            found: Any = None

            async def seen() -> bool:
                nonlocal found
                found = await scraped(address)
                return expected(found)

            await wait_until(seen, SETTLED_SECONDS_MAX, "the state of the reload")
            return dict(found)

        begun = await scraped(address)
        assert total(begun, "config_last_reload_successful") == 1
        taken_at = total(begun, "config_last_reload_success_timestamp_seconds")
        assert abs(taken_at - time.time()) < 300
        wrong = await shows(
            lambda it: total(it, "config_last_reload_successful") == 0, right + "\nbroken = "
        )
        assert total(wrong, "config_last_reload_success_timestamp_seconds") == taken_at
        assert total(wrong, "destinations") == 1
        more = right + f'\n[[destinations]]\nid = "second"\nbucket = "{lab.bucket}"\n'
        two = await shows(lambda it: total(it, "destinations") == 2, more)
        assert total(two, "config_last_reload_successful") == 1
        assert total(two, "config_restart_required") == 0
        assert total(two, "config_last_reload_success_timestamp_seconds") > taken_at
        await shows(
            lambda it: total(it, "config_restart_required") == 1,
            more.replace("grace_seconds = 1", "grace_seconds = 3"),
        )
        await shows(lambda it: total(it, "config_restart_required") == 0, right)


# --- the server alone ----------------------------------------------------------------------------


@in_a_loop
async def test_fifth_scrape_at_a_time_is_refused_and_one_that_fails_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go_on, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def metrics(accept: str | None) -> tuple[bytes, str]:
        begun.release()
        await go_on.wait()
        if accept == "broken":
            raise ZeroDivisionError
        return b"page", "text/plain"

    server = MonitoringServer(metrics, {"/health/live": lambda: {"live": True, "reasons": ()}})
    address = await server.listen("127.0.0.1", free_ports(1)[0])
    assert address
    try:
        first = [
            asyncio.create_task(asked(address, "/metrics", Accept=accept))
            for accept in ["broken", *["right"] * (SCRAPES_MAX - 1)]
        ]
        for _ in first:
            await begun.acquire()
        refused = await asked(address, "/metrics")
        assert (refused.status, refused.body) == (503, b"4 scrapes are in progress\n")
        assert await verdict(address, "live") == (True, [])
        go_on.set()
        answers = await asyncio.gather(*first)
        assert [it.status for it in answers] == [500, *[200] * (SCRAPES_MAX - 1)]
        assert b"ZeroDivisionError" not in answers[0].body
        assert "ZeroDivisionError" in caplog.text
        assert (await asked(address, "/metrics")).body == b"page"
    finally:
        await server.close()


@in_a_loop
async def test_watch_server_only_answers_questions() -> None:
    async def metrics(_: str | None) -> tuple[bytes, str]:
        return b"page", "text/plain"

    server = MonitoringServer(metrics, {"/health/live": lambda: {"live": True, "reasons": ()}})
    address = await server.listen("127.0.0.1", free_ports(1)[0])
    assert address
    try:
        for path in ("/metrics", "/health/live"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                answer = await asyncio.to_thread(ask, address, path, method=method)
                assert answer.status == 405
    finally:
        await server.close()


# --- what is neither delivered nor unread --------------------------------------------------------


@in_a_loop
async def test_events_of_no_destination_and_events_behind_an_open_transaction_are_counted(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    orders = next(it for it in TARGETS if it.id == "orders")
    async with Lab(kafka.address, s3, tmp_path, partitions=1, targets=[orders]) as lab:
        address = await address_of(await lab.start_worker())
        for _ in range(3):
            await lab.load.send_raw(b"{}", pipeline='"orders"')
        await lab.load.send(2, pipeline="orders")
        await lab.settled()
        assert total(await scraped(address), "unmatched_events_total") == 3
        async with lab.transactions() as producer:
            await producer.begin_transaction()
            await producer.send_and_wait(lab.events_topic, b"{}", key=b"orders")
            await lab.load.send(20, pipeline="orders")

            async def hidden() -> bool:
                return total(await scraped(address), "hidden_offsets") == 21

            async def is_old() -> bool:
                return total(await scraped(address), "hidden_offsets_age_seconds") > 2

            await wait_until(
                hidden, SETTLED_SECONDS_MAX, "the events behind the transaction are counted"
            )
            await wait_until(is_old, SETTLED_SECONDS_MAX, "its age is counted")
            seen = await scraped(address)
            assert (total(seen, "lag_offsets"), total(seen, "unread_offsets")) == (21, 0)
            assert await verdict(address, "ready") == (True, [])
            await producer.abort_transaction()
        await lab.settled()

        async def none_left() -> bool:
            return {
                total(await scraped(address), name)
                for name in ("hidden_offsets", "hidden_offsets_age_seconds", "lag_offsets")
            } == {0}

        await wait_until(none_left, SETTLED_SECONDS_MAX, "nothing is hidden")
        await lab.verify()
