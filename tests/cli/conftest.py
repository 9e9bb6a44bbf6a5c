"""A home of its own for every test of the command line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Configure, Needle
from click.testing import CliRunner, Result

from needle_mcp.cli import cli


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty NEEDLE_HOME."""
    monkeypatch.setenv("NEEDLE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NEEDLE_CONFIG", "NEEDLE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def needle(home: Path) -> Needle:
    """Runs the command line in that home."""

    def run(*args: str, input: str = "") -> Result:
        result = CliRunner().invoke(cli, args, input=input, prog_name="needle-mcp")
        assert "Traceback" not in result.output
        return result

    return run


@pytest.fixture
def configure(home: Path) -> Configure:
    """Writes `needle.json` with these servers; the sample server is called `desk`."""

    def write(servers: dict[str, Any] | None = None, **needle: Any) -> Path:
        launch = {
            "command": sys.executable,
            "args": ["-m", "needle_mcp.samples.desk", "--db", str(home / "desk.db")],
            "policy": {"add_note": "confirm", "list_notes": "read"},
        }
        path = home / "needle.json"
        entries = {"desk": launch} if servers is None else servers
        path.write_text(json.dumps({"mcpServers": entries, "needle": needle}))
        return path

    return write
