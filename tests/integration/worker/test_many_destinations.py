"""A worker with thousands of destinations, of which some get events: each is delivered, shown or
counted once, and a change of one file changes what is in it.
"""

from pathlib import Path

from stream_app.config.settings import environment_name
from stream_app.embedded.servers import KafkaServer, S3Server
from stream_app.monitoring.destination_counts import OTHERS
from tests.chaos.harness import (
    LONG_SESSION_SECONDS,
    SETTLED_SECONDS_MAX,
    Lab,
    in_a_loop,
    wait_until,
)
from tests.chaos.oracle import Target
from tests.integration.worker.test_monitoring import (
    NONE_LEFT,
    address_of,
    recorded,
    scraped,
    total,
)

ACTIVE = 40
TEAMS = 4
QUIET_OF_A_TEAM = 1_000
OWN = 10
EVENTS = 400


def team(lab: Lab, number: int, *, moved: int | None = None) -> str:
    """Return the file of a team: destinations that get no event, each with its expression."""
    return "".join(
        f'[[destinations]]\nid = "quiet-{number}-{it}"\nbucket = "{lab.bucket}"\n'
        f'pipeline = "quiet-{number}-{it}"\n'
        f'prefix = "{"moved" if it == moved else "quiet"}/{it}/"\n'
        f'payload = "$event.n % {it + 1} === 0 ? undefined : [$event]"\n'
        for it in range(QUIET_OF_A_TEAM)
    )


@in_a_loop
async def test_few_active_of_many_destinations_are_delivered_and_counted_once(
    kafka: KafkaServer, s3: S3Server, tmp_path: Path
) -> None:
    pipelines = [f"pipeline-{it}" for it in range(ACTIVE)]
    targets = [Target(f"active-{it}", f"active-{it}/", pipeline=it) for it in pipelines]
    async with Lab(
        kafka.address,
        s3,
        tmp_path,
        partitions=2,
        targets=targets,
        pipelines=pipelines,
        session_seconds=LONG_SESSION_SECONDS,
    ) as lab:
        (teams := lab.configuration.parent / "teams").mkdir()
        for number in range(TEAMS):
            (teams / f"{number}.toml").write_text(team(lab, number), "utf-8")
        text = lab.configuration.read_text("utf-8")
        lab.configuration.write_text(f'destinations_dir = "teams"\n{text}', "utf-8")
        count = ACTIVE + TEAMS * QUIET_OF_A_TEAM
        worker = lab.launch_worker(
            environment={environment_name("http", "metrics_destinations_max"): f"{OWN}"}
        )
        await worker.logged(f"ready: {count} destinations")
        address = await address_of(worker)
        before = await scraped(address)
        assert {dict(it)["destination"] for it in before["objects_total"]} == {OTHERS}
        await lab.load.send(EVENTS)
        await lab.settled()
        await lab.verify()

        async def has_settled() -> bool:
            seen = await scraped(address)
            return not any(total(seen, it) for it in NONE_LEFT)

        await wait_until(has_settled, SETTLED_SECONDS_MAX, "the worker knows its last commit")
        after, receipts = await scraped(address), await lab.read_receipts()
        assert {it.value["destination"] for it in receipts} == {it.id for it in targets}
        shown = {dict(it)["destination"] for it in after["objects_total"]}
        assert len(shown) == OWN + 1
        assert total(after, "destinations_left_out") == ACTIVE - OWN
        assert total(after, "outcomes_total") == EVENTS
        for id_ in shown - {OTHERS}:
            own = total(after, "outcomes_total", destination=id_, outcome="delivered")
            assert own == recorded(receipts, "delivered", "delivered", id_)
        (teams / "2.toml").write_text(team(lab, 2, moved=7), "utf-8")
        await worker.logged(f"on {count} destinations: 0 added, 1 changed, 0 removed")
        (teams / "3.toml").unlink()
        await worker.logged(f"destinations: 0 added, 0 changed, {QUIET_OF_A_TEAM} removed")
