"""What `--help` says is part of the interface; UPDATE_GOLDEN=1 writes it down anew."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from cli_kit import Needle

from needle_mcp.cli import cli

GOLDEN = Path(__file__).parent.parent / "golden" / "help.txt"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def test_help_reads_as_written_down(needle: Needle) -> None:
    pages = [
        f"$ {' '.join(('needle-mcp', *path, '--help'))}\n{needle(*path, '--help').stdout}" for path in commands(cli)
    ]
    text = "\n".join(pages)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_every_command_and_option_is_explained() -> None:
    for path in commands(cli):
        command: click.Command = cli
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        assert command.help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (path, parameter.name)


def test_the_module_is_the_command_line_too() -> None:
    version = [sys.executable, "-m", "needle_mcp", "--version"]
    assert subprocess.run(version, capture_output=True, text=True, check=True).stdout.startswith("needle-mcp, version")
