"""`needle-mcp completion`: the shell's tab key."""

import click


@click.command(short_help="Print the script that completes commands in your shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  needle-mcp completion bash > ~/.local/share/bash-completion/completions/needle-mcp
    zsh:   needle-mcp completion zsh > "${fpath[1]}/_needle-mcp"
    fish:  needle-mcp completion fish > ~/.config/fish/completions/needle-mcp.fish
    """
    from click.shell_completion import get_completion_class

    root = context.find_root()
    writer = get_completion_class(shell)
    assert writer is not None, "the choices are the shells that click knows"
    click.echo(writer(root.command, {}, "needle-mcp", "_NEEDLE_MCP_COMPLETE").source())
