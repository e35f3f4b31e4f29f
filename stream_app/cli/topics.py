"""The command `stream-app topics`: creates the events topic and the receipts topic."""

import asyncio
import dataclasses
from typing import Final

import click

from stream_app.cli.common import load_settings, print_document, print_error, with_config
from stream_app.text import counted

PARTITIONS_DEFAULT: Final = 4
PARTITIONS_MAX: Final = 10_000
REPLICATION_MAX: Final = 100


@click.command()
@click.option(
    "--partitions",
    type=click.IntRange(1, PARTITIONS_MAX),
    default=PARTITIONS_DEFAULT,
    show_default=True,
    help="Partitions of each topic that is created.",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(1, REPLICATION_MAX),
    default=1,
    show_default=True,
    help="Copies of each partition; 3 is usual with 3 brokers or more.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on each line.")
@with_config
def topics(config: str, partitions: int, replication_factor: int, *, as_json: bool) -> None:
    """Create the events topic and the receipts topic.

    A topic that exists is left as it is.

    \b
    Examples:
      stream-app topics --partitions 12 --replication-factor 3
      stream-app topics --json | jq .partitions
    """
    settings = load_settings(config)
    from stream_app.kafka.topics import create_topics

    for topic in asyncio.run(
        create_topics(settings.kafka, partitions=partitions, replication_factor=replication_factor)
    ):
        if as_json:
            print_document(dataclasses.asdict(topic))
        else:
            done = "created" if topic.created else "exists"
            click.echo(f"{topic.name}: {done}, partitions: {topic.partitions}")
        if topic.partitions != partitions:
            found = counted(topic.partitions, "partition")
            print_error(
                f"stream-app: note: topic '{topic.name}' keeps its {found}; "
                f"--partitions {partitions} holds only for a topic that is created"
            )
