"""Steps of a start, counted; their duration is the benchmark's matter."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable

import pytest
from faust.types import StreamT

from stream_app.cli.main import stream_app
from stream_app.embedded.servers import KafkaServer
from stream_app.worker.faust_app import StreamApp
from tests.contract.apps import Keeper, create_topics, new_app, run, running

HELP = """
import json, sys
before = set(sys.modules)
from stream_app.cli.main import main
try:
    main()
except SystemExit as exit:
    assert not exit.code, exit.code
packages = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps(sorted(packages - sys.stdlib_module_names)))
"""


@pytest.mark.parametrize("command", [[], *([name] for name in stream_app.commands)])
def test_help_imports_click_and_nothing_else_of_others(command: list[str]) -> None:
    # Kafka's client, Faust or rich would take it longer than people wait.
    done = subprocess.run(
        [sys.executable, "-c", HELP, *command, "--help"], capture_output=True, check=True
    )
    *shown, packages = done.stdout.decode().splitlines()
    assert shown[0].startswith("Usage: stream-app")
    assert json.loads(packages) == ["click", "stream_app"]


def subscriptions(app: StreamApp) -> list[set[str]]:
    """Return a list that each set of topics joins to which the app subscribes."""
    made: list[set[str]] = []
    subscribe = app.consumer.subscribe

    async def recorded(topics: Iterable[str]) -> None:
        made.append(set(topics))
        await subscribe(made[-1])

    app.consumer.subscribe = recorded  # type: ignore[method-assign] # and passes on
    return made


def test_first_subscription_has_the_topics_of_all_agents(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    # Faust subscribes to a topic that comes later only after 45 s.
    async def scenario() -> None:
        app = new_app(kafka.address, topic_prefix)
        keeper, other = Keeper(app), f"{topic_prefix}other"

        @app.agent(app.topic(other, value_type=bytes, value_serializer="raw"), name="other")
        async def pass_over(stream: StreamT[bytes]) -> None:
            await asyncio.sleep(0.1)  # it takes the first event later than the app subscribes
            async for _ in stream:
                pass

        made, events = subscriptions(app), app.settings.kafka.events_topic
        await create_topics(kafka.address, {events: 1, other: 1})
        async with running(app):
            await app.topics.wait_for_subscriptions()
        assert made == [{events, other}]
        assert keeper.events.empty()

    run(scenario())


def test_app_is_not_held_up_for_the_second_that_faust_waits(
    kafka: KafkaServer, topic_prefix: str
) -> None:
    async def scenario() -> None:
        app = new_app(kafka.address, topic_prefix)
        Keeper(app)
        slept: list[float] = []
        sleep = app.tables.sleep

        async def recorded(seconds: float) -> None:
            slept.append(seconds)
            await sleep(seconds)

        app.tables.sleep = recorded
        await create_topics(kafka.address, {app.settings.kafka.events_topic: 1})
        async with running(app):
            pass
        assert slept == []

    run(scenario())
