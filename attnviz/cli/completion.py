"""``attnviz completion``: the script that makes a shell complete our commands and options."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash:  attnviz completion bash > ~/.local/share/bash-completion/completions/attnviz
    zsh:   attnviz completion zsh > "${fpath[1]}/_attnviz"
    fish:  attnviz completion fish > ~/.config/fish/completions/attnviz.fish
    """  # noqa: D301  # \b is the character that keeps Click from re-wrapping
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"Click has no completion for {shell}")
    group = ctx.find_root().command
    # Only the template: Click's `source()` runs the shell first to check its version.
    maker = completion(group, {}, "attnviz", "_ATTNVIZ_COMPLETE")
    click.echo(maker.source_template % maker.source_vars())
