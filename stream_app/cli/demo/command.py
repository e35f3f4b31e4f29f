"""The command `stream-app demo`."""

import click


@click.command()
@click.option(
    "--keep",
    is_flag=True,
    help="Keep all of it running until Ctrl-C, with an Inspector; print the addresses.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
def demo(*, keep: bool, as_json: bool) -> int:
    """Run real Kafka, S3 and a worker here: 30 events, 2 objects.

    The demo needs no set-up and leaves nothing behind. Windows last 10 s here; 60 s is the default.

    With --json standard output has one document of objects, receipts and summary, and standard
    error has the progress.

    \b
    Examples:
      stream-app demo
      stream-app demo --json | jq .objects
    """
    from stream_app.cli.demo.run import run_demo

    return run_demo(keep=keep, as_json=as_json)
