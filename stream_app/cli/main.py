"""The program `stream-app`: its commands, and how it exits.

Errors are lines on standard error, one for each mistake; standard output carries results only.
`common` lists the exit statuses.

Kafka's client, Faust and rich are slow to import: a command imports them when it runs, so that
`--help` and completion are fast.
"""

import io
import logging
import sys
from difflib import get_close_matches
from typing import Final, NoReturn

import click

from stream_app import __version__
from stream_app.cli.cases import test
from stream_app.cli.check import check
from stream_app.cli.common import (
    MEANINGS,
    STATUS_DONE,
    STATUS_FAILED,
    STATUS_INTERRUPTED,
    STATUS_WRONG,
    print_error,
)
from stream_app.cli.completion import completion
from stream_app.cli.demo.command import demo
from stream_app.cli.inspector import inspector
from stream_app.cli.policy import policy
from stream_app.cli.receipts import receipts
from stream_app.cli.redeliver import redeliver
from stream_app.cli.send import send
from stream_app.cli.topics import topics
from stream_app.cli.worker import worker
from stream_app.errors import ConfigurationError, StreamAppError

_COMMANDS: Final = (
    check,
    completion,
    demo,
    inspector,
    policy,
    receipts,
    redeliver,
    send,
    test,
    topics,
    worker,
)


def main() -> NoReturn:
    """Run the command line and exit with its status."""
    sys.exit(_run())


def _run() -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A mark or a letter that the terminal's encoding lacks is no reason to end.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = stream_app.main(prog_name="stream-app", standalone_mode=False)
    except click.Abort:
        return STATUS_INTERRUPTED
    except click.ClickException as error:
        print_error(f"stream-app: {_message(error)}")
        return error.exit_code
    except ConfigurationError as error:
        for mistake in error.mistakes:
            print_error(mistake)
        return STATUS_WRONG
    except StreamAppError as error:
        print_error(f"stream-app: {error}")
        return STATUS_FAILED
    return status if isinstance(status, int) else STATUS_DONE


def _message(error: click.ClickException) -> str:
    """Return an error of the command line on one line, with the help to read."""
    if isinstance(error, click.NoSuchOption) and error.possibilities:
        near = " or ".join(sorted(error.possibilities))
        message = f"{error.message}; did you mean {near}?"
    else:
        # click lists choices on lines of their own.
        message = " ".join(error.format_message().split()).rstrip(".")
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    see = " See" if message.endswith("?") else "; see"
    return f"{message}{see} {error.ctx.command_path} --help"


class _Commands(click.Group):
    """Command group that suggests the closest command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None:
            near = get_close_matches(name, self.commands, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            ctx.fail(f"No such command '{name}'{meant}")
        return super().resolve_command(ctx, args)


_HELP: Final = "\n".join(
    [
        "Deliver Kafka events to S3 once a minute, exactly once.",
        "",
        "\b",
        "Example:",
        "  stream-app demo",
        "",
        "\b",
        "Exit status:",
        *(f"  {status:<4} {meaning}" for status, meaning in MEANINGS.items()),
    ]
)


@click.group(
    cls=_Commands,
    no_args_is_help=False,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def stream_app() -> None:
    """Prepare for any command."""
    # Failures are printed as one line by the code that catches them.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.getLogger("aiokafka").propagate = False


for _command in _COMMANDS:
    stream_app.add_command(_command)
