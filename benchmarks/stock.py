# ruff: noqa: INP001, T201 - a program, no package; the log is standard error
"""The same job as Faust's documentation would have it: what the throughput benchmark calls stock.

An agent over single events, a list-valued table of tumbling minutes, and `on_window_close`, which
gzips a list and puts it. As it comes it would not survive the benchmark's events, so:

- **Few events a window.** Each set of a table logs its whole value to the changelog topic: a list
  that grows to n events makes n**2 / 2 events of changelog, and at 1 MB the producer refuses it and
  the worker ends. So the events are spread over so many minutes that a window has ten.
- **One partition.** When a minute of one partition is closed, the table takes that minute of every
  other partition for closed as well, and drops it without a call.
- **Closed when all events are in.** Faust closes by the wall clock, every 30 s, so also a minute
  that is being read from a backlog, and drops what comes afterwards for it. So the clean-up that
  closes is put off and called once, at the end.

What closing and putting cost is not counted, in its favour: few events a window are many objects.
"""

import gzip
import sys
from datetime import timedelta
from typing import Any, Final

import click
import faust
import orjson
from aiobotocore.session import get_session
from faust.app.base import BootStrategy

MINUTE: Final = timedelta(minutes=1)
NEVER: Final = timedelta(days=1)


class App(faust.App):
    """Without the web server: its port is the same for everyone on a machine."""

    class BootStrategy(BootStrategy):
        """See above."""

        enable_web = False


class Objects:
    """The closing callback."""

    def __init__(self, bucket: str) -> None:
        self.lines = 0
        """Put so far."""
        self.client: Any = None
        self._bucket = bucket

    async def put(self, key: Any, payloads: list[Any]) -> None:  # noqa: ANN401 - as Faust has them
        """Write what one pipeline has collected in one minute."""
        pipeline, (start, _) = key
        content = gzip.compress(b"".join(orjson.dumps(it) + b"\n" for it in payloads))
        name = f"{start:.0f}-{pipeline}.gz"
        await self.client.put_object(Bucket=self._bucket, Key=name, Body=content)
        self.lines += len(payloads)


def create_app(
    *, broker: str, topic: str, events: int, endpoint_url: str, bucket: str, body: bool
) -> faust.App:
    """Return an app that takes so many events, closes their windows and logs its progress."""
    app = App(
        f"stock-{bucket}",
        broker=f"kafka://{broker}",
        store="memory://",
        topic_partitions=1,
        topic_disable_leader=True,
        table_cleanup_interval=NEVER,
        worker_redirect_stdouts=False,
    )
    objects = Objects(bucket)
    table = app.Table("minutes", default=list, on_window_close=objects.put).tumbling(
        MINUTE, expires=MINUTE
    )

    @app.agent(app.topic(topic, key_type=str, value_serializer="json"))
    async def collect(stream: faust.Stream[Any]) -> None:
        taken = 0
        async for key, event in stream.items():
            payloads = table[key].value()
            payloads.append(event["body"] if body else event)
            table[key] = payloads
            taken += 1
            if taken == events:
                print("taken", file=sys.stderr, flush=True)
                await table.table._del_old_keys()  # noqa: SLF001 - Faust's tick
                print(f"done: {objects.lines} lines", file=sys.stderr, flush=True)

    @app.task
    async def begin() -> None:
        client = get_session().create_client("s3", endpoint_url=endpoint_url)
        objects.client = await app.add_async_context(client)
        print("ready", file=sys.stderr, flush=True)

    return app


@click.command()
@click.option("--broker", required=True)
@click.option("--topic", required=True)
@click.option("--events", type=int, required=True)
@click.option("--endpoint-url", required=True)
@click.option("--bucket", required=True)
@click.option("--body/--whole", default=False)
def main(**options: Any) -> None:  # noqa: ANN401 - as the app takes them
    """Read a topic from its beginning, so many events, and wait to be ended."""
    worker = faust.Worker(create_app(**options), redirect_stdouts=False, loglevel="ERROR")
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
