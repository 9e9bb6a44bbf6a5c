"""A client of mcp 1.30, the last of the SDK's first generation, in an environment of its own."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

RELEASE = "mcp==1.30.*"
SCRIPT = Path(__file__).with_name("old_client.py")


@pytest.fixture(scope="module")
def old_python(pytestconfig: pytest.Config) -> str:
    """A Python with mcp 1.30; the environment is kept in pytest's cache."""
    folder = Path(pytestconfig.cache.mkdir("mcp-1.30")) if pytestconfig.cache else None
    if folder is None:
        pytest.skip("pytest has no cache folder for the environment of mcp 1.30")
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", RELEASE]
        installed = subprocess.run(pip, capture_output=True, text=True, timeout=110)
        if installed.returncode:
            pytest.skip(f"{RELEASE} can't be installed here: {installed.stderr.strip().splitlines()[-1:]}")
        (folder / "complete").touch()
    return str(python)


@pytest.mark.published
def test_a_client_of_mcp_1_30_lists_confirms_and_calls(old_python: str, tmp_path: Path) -> None:
    desk = {"command": sys.executable, "args": ["-m", "needle_mcp.samples.desk", "--db", str(tmp_path / "desk.db")]}
    config = tmp_path / "needle.json"
    asking = {"mcpServers": {"desk": desk | {"policy": {"*": "confirm"}}}}
    config.write_text(json.dumps(asking | {"needle": {"stateDir": str(tmp_path / "state")}}))
    serve = [sys.executable, "-m", "needle_mcp", "serve", "--config", str(config)]
    client = subprocess.run(
        [old_python, str(SCRIPT), *serve],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NEEDLE_HOME": str(tmp_path)},
    )
    assert client.returncode == 0, client.stderr
    seen = json.loads(client.stdout)
    assert (seen["protocol"], seen["list_changed"]) == ("2025-11-25", True)
    assert seen["tools"] == ["act", "plan", "call", "search_tools", "status"]
    [question] = seen["asked"]
    assert question.endswith('\ndesk.add_note {"text": "the key is here"}'), "the user sees exactly what is called"
    assert not seen["is_error"]
    assert (seen["outcome"]["outcome"], seen["outcome"]["steps"][0]["ok"]) == ("answer", True)
