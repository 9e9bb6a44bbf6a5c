"""The main job as a desktop client sees it: words in, the shipped model plans, published servers act on the disk."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.context import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult
from published_kit import filesystem, git

from needle_mcp.config import ServerConfig

pytestmark = [pytest.mark.published, pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(600)]


def launch(folder: Path, *servers: ServerConfig) -> StdioServerParameters:
    entries = {server.name: {"command": server.command, "args": list(server.args)} for server in servers}
    # What a model is sure of is another question; here a person agrees to whatever it proposes.
    needle = {"stateDir": str(folder / "state"), "askThreshold": 0.0}
    config = folder / "needle.json"
    config.write_text(json.dumps({"mcpServers": entries, "needle": needle}))
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "needle_mcp", "serve", "--config", str(config)],
        env={
            "NEEDLE_HOME": str(folder),
            **({"NEEDLE_MODEL": __import__("os").environ["NM"]} if "NM" in __import__("os").environ else {}),
        },
    )


async def agree(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="accept", content={"confirm": True})


async def ask(server: StdioServerParameters, requests: Sequence[str]) -> list[dict[str, Any]]:
    """What comes back for each request."""
    with anyio.fail_after(120):
        async with Client(server, elicitation_callback=agree) as client:
            results = [await client.call_tool("act", {"request": request}) for request in requests]
    return [result.structured_content or {} for result in results]


def calls(outcome: dict[str, Any]) -> list[str]:
    return [step["tool"] for step in outcome["steps"]]


async def test_requests_about_files_end_on_disk(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = (tmp_path / "files").resolve()
    root.mkdir()
    (root / "plan.txt").write_text("water the tomatoes\n", "utf-8")
    server = launch(tmp_path, filesystem(tmp_path_factory.getbasetemp() / "npm", root))
    made, read = await ask(server, [f"create the directory {root}/reports", f"read the text file {root}/plan.txt"])
    assert "filesystem.create_directory" in calls(made), made
    assert (root / "reports").is_dir()
    assert "water the tomatoes" in json.dumps(read["steps"])


def in_git(repository: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = (tmp_path / "repo").resolve()
    path.mkdir()
    in_git(path, "init", "-q", "-b", "main")
    in_git(path, "-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-q", "--allow-empty", "-m", "first")
    return path


async def test_requests_about_git_end_in_the_repository(
    repository: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = launch(tmp_path, git(tmp_path_factory.getbasetemp() / "git-venv"))
    status, branch = await ask(
        server, [f"git status of {repository}", f"create a branch called feature-x in {repository}"]
    )
    assert "git.git_status" in calls(status), status
    assert "On branch main" in json.dumps(status["steps"])
    assert "git.git_create_branch" in calls(branch), branch
    assert "feature-x" in in_git(repository, "branch")
