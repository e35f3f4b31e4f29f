"""The command `stream-app completion`, and completion of the values of other commands' options.

At each press of the Tab key the shell's script runs `stream-app` itself, by click's own protocol:
the variable `_STREAM_APP_COMPLETE`. Ids, buckets and pipelines come from the configuration that the
command line names so far, and from the folder that it names. A wrong configuration completes
nothing and prints nothing: the command will print the mistakes.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_STREAM_APP_COMPLETE"
PROGRAM: Final = "stream-app"
PLAIN: Final = r"[\w@%+=,./-]+"
"""Characters that mean themselves in every shell: the scripts do not quote what they insert."""
CONFIG_BYTES_MAX: Final = 256 * 1024
"""More of a configuration is not read, since a person waits for the Tab key; reading this much
takes 0.1 s."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    The script completes commands, options, destinations, buckets and pipelines.

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
    """Return the destination ids of the configuration with this beginning."""
    return _values(context, "id", beginning)


def buckets(context: click.Context, _parameter: click.Parameter, beginning: str) -> list[str]:
    """Return the buckets of the configuration with this beginning."""
    return _values(context, "bucket", beginning)


def pipelines(context: click.Context, _parameter: click.Parameter, beginning: str) -> list[str]:
    """Return the pipelines of the configuration with this beginning."""
    return _values(context, "pipeline", beginning)


def _values(context: click.Context, name: str, beginning: str) -> list[str]:
    values = (entry.get(name) for entry in _destinations(context.params.get("config")))
    plain = (it for it in values if isinstance(it, str) and re.fullmatch(PLAIN, it))
    return [it for it in dict.fromkeys(plain) if it.startswith(beginning)]


def _destinations(config: object) -> Iterator[dict[str, object]]:
    path, left = Path(str(config)), CONFIG_BYTES_MAX
    try:
        document, left = _document(path, left)
        yield from _entries(document)
        folder = document.get("destinations_dir")
        for file in sorted((path.parent / folder).glob("*.toml")) if folder else ():
            document, left = _document(file, left)
            yield from _entries(document)
    except (OSError, ValueError, TypeError, RecursionError):
        return  # see the module's docstring


def _document(path: Path, left: int) -> tuple[dict[str, Any], int]:
    """Return a file's content, none if it is too long, and how many bytes may still be read."""
    import tomllib

    with path.open("rb") as file:
        content = file.read(left + 1)
    if len(content) > left:
        return {}, 0
    return tomllib.loads(content.decode()), left - len(content)


def _entries(document: dict[str, Any]) -> Iterator[dict[str, object]]:
    destinations = document.get("destinations")
    for entry in destinations if isinstance(destinations, list) else ():
        if isinstance(entry, dict):
            yield entry
