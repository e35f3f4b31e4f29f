"""The command `stream-app completion`, and what the options of others are completed with.

A script asks `stream-app` itself at every press of the key, through click's own protocol: the
variable `_STREAM_APP_COMPLETE`. Ids, buckets and pipelines come from the configuration that the
command line names so far. Whatever is wrong with it, completion offers nothing and says nothing:
the command will say it.
"""

# ruff: noqa: PLC0415, D301 - imports where they are used, and click's bare backslash-b.

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_STREAM_APP_COMPLETE"
PROGRAM: Final = "stream-app"
PLAIN: Final = r"[\w@%+=,./-]+"
"""What means itself in every shell: the scripts put it on the line as it is."""
CONFIG_BYTES_MAX: Final = 256 * 1024
"""A longer configuration is not read: somebody waits for the key to answer. It takes 0.1 s."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script with which a shell completes commands, options, ids and buckets.

    \b
    Examples:
      eval "$(stream-app completion bash)"       # in ~/.bashrc
      eval "$(stream-app completion zsh)"        # in ~/.zshrc, after compinit
      stream-app completion fish >~/.config/fish/completions/stream-app.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this version of click has no completion for {shell}")
    command = click.get_current_context().find_root().command
    click.echo(kind(command, {}, PROGRAM, VARIABLE).source())


def destination_ids(
    context: click.Context, _parameter: click.Parameter, beginning: str
) -> list[str]:
    """Return the ids of the configuration that begin so."""
    return _values(context, "id", beginning)


def buckets(context: click.Context, _parameter: click.Parameter, beginning: str) -> list[str]:
    """Return the buckets of the configuration that begin so."""
    return _values(context, "bucket", beginning)


def pipelines(context: click.Context, _parameter: click.Parameter, beginning: str) -> list[str]:
    """Return the pipelines of the configuration that begin so."""
    return _values(context, "pipeline", beginning)


def _values(context: click.Context, name: str, beginning: str) -> list[str]:
    values = (entry.get(name) for entry in _destinations(context.params.get("config")))
    right = (it for it in values if isinstance(it, str) and re.fullmatch(PLAIN, it))
    return [it for it in dict.fromkeys(right) if it.startswith(beginning)]


def _destinations(config: object) -> Iterator[dict[str, object]]:
    import tomllib

    try:
        with Path(str(config)).open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
        entries = tomllib.loads(content.decode()) if len(content) <= CONFIG_BYTES_MAX else {}
    except (OSError, ValueError, RecursionError):
        return  # as the module says
    written = entries.get("destinations")
    for entry in written if isinstance(written, list) else ():
        if isinstance(entry, dict):
            yield entry
