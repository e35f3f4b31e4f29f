"""The command `stream-app completion`."""

# click marks paragraphs with a bare backslash-b.
# ruff: noqa: D301

import click
from click.shell_completion import get_completion_class

from stream_app.errors import SetupError

PROGRAM = "stream-app"
VARIABLE = "_STREAM_APP_COMPLETE"
"""By which a shell's function asks the command; click derives it from the name."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what lets a shell complete commands, options, and the configuration's destinations.

    \b
    Examples:
      eval "$(stream-app completion bash)"                       # in .bashrc
      eval "$(stream-app completion zsh)"                        # in .zshrc
      stream-app completion fish > ~/.config/fish/completions/stream-app.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows all three"  # noqa: S101
    try:
        click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
    except RuntimeError as error:
        raise SetupError(f"completion for {shell}: {error}") from error
