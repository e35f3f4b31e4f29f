"""Parts that the commands share: exit statuses, the option `--config`, errors and documents."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from stream_app.text import printable

if TYPE_CHECKING:
    from stream_app.config.settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., Any])

STATUS_DONE: Final = 0
STATUS_FAILED: Final = 1
STATUS_WRONG: Final = 2
STATUS_INTERRUPTED: Final = 130
STATUS_TERMINATED: Final = 143

MEANINGS: Final[Mapping[int, str]] = {
    STATUS_DONE: "done; or a worker or an Inspector was stopped by a signal",
    STATUS_FAILED: "not all is done: broker, topic, right, reader or id refuses or is missing",
    STATUS_WRONG: "command line or configuration is wrong, or a group_instance_id is used twice",
    STATUS_INTERRUPTED: "ended by Ctrl-C before it was done",
    STATUS_TERMINATED: "ended by SIGTERM before it was done",
}
"""Meaning of each exit status, for `--help` and docs/reference.md."""


def print_error(text: str) -> None:
    """Print lines on standard error, without characters that could steer the terminal."""
    click.echo("\n".join(printable(line) for line in text.split("\n")), err=True)


def print_document(document: Mapping[str, object]) -> None:
    """Print one JSON document on a line of its own, in ASCII."""
    click.echo(json.dumps(document))


def unknown_destinations(
    settings: "Settings", destinations: Sequence[str], advice: str = ""
) -> dict[str, str]:
    """Return an error for each destination of the command line that is not configured, by its id.

    Args:
        settings: The configuration.
        destinations: Ids of the command line.
        advice: What to do about an id that is not nearly one of the configuration.
    """
    known = [destination.id for destination in settings.destinations]
    errors = {}
    for name in destinations:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            end = f"; did you mean '{near[0]}'?" if near else advice
            errors[name] = f"{settings.name} has no destination '{name}'{end}"
    return errors


def with_config(command: _Command) -> _Command:
    """Add the option `--config` to a command."""
    return click.option(
        "--config",
        type=click.Path(),
        metavar="FILE",
        envvar="STREAM_APP_CONFIG",
        default="stream_app.toml",
        show_default=True,
        show_envvar=True,
        help="The configuration file.",
    )(command)


def with_logging(command: _Command) -> _Command:
    """Add the options `--log-level` and `--log-format` to a command."""
    level = click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        envvar="STREAM_APP_LOG_LEVEL",
        default="info",
        show_default=True,
        show_envvar=True,
        help="Minimum level of the messages that are logged.",
    )
    log_format = click.option(
        "--log-format",
        type=click.Choice(["auto", "text", "json"]),
        envvar="STREAM_APP_LOG_FORMAT",
        default="auto",
        show_default=True,
        show_envvar=True,
        help="Lines for people, or JSON; auto: text if standard error is a terminal.",
    )
    return level(log_format(command))


def load_settings(config: str) -> "Settings":
    """Return the settings of a configuration file, its folder and the environment.

    Raises:
        ConfigurationError: All mistakes that were found.
    """
    from stream_app.config.files import ConfigSource

    return ConfigSource(config, os.environ).load()
