"""``completion``: what a shell evaluates to complete this command line."""

from __future__ import annotations

import click

_VARIABLE = "_REKOGNITION_DAGSTER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes the tab key complete commands and options.

    Evaluate it where the shell starts: in ~/.bashrc, in ~/.zshrc, or, for fish, in
    ~/.config/fish/completions/rekognition-dagster.fish.

    \b
      eval "$(rekognition-dagster completion bash)"
      rekognition-dagster completion zsh >> ~/.zshrc
      rekognition-dagster completion fish | source
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    root = context.find_root().command
    click.echo(found(root, {}, "rekognition-dagster", _VARIABLE).source())
