"""The manifests that come with the project say what is true, and nothing about the machine that captured them."""

import re
import sys
from pathlib import Path

import anyio
import pytest

from needle_mcp import paths
from needle_mcp.config import ServerConfig
from needle_mcp.runtime.capture import capture
from needle_mcp.tools.manifest import read_manifest

FILES = sorted(paths.shipped("tool_manifests").glob("*.json"))
SERVERS = {
    *("desk", "fetch", "filesystem", "git", "github", "home-assistant"),
    *("memory", "playwright", "slack", "sqlite", "time"),
}


def test_every_server_that_is_promised_has_a_manifest() -> None:
    assert {path.stem for path in FILES} == SERVERS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_manifest_is_whole(path: Path) -> None:
    manifest, problems = read_manifest(path)
    assert problems == ()
    assert manifest.server == path.stem
    assert len(manifest.specs()) == len(manifest.tools) > 0
    assert manifest.source.package and manifest.source.version and manifest.captured and manifest.launch.command
    assert manifest.policy["*"] == "confirm"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_hints_name_parameters_that_exist(path: Path) -> None:
    manifest, _ = read_manifest(path)
    for tool in manifest.specs():
        assert set(tool.hints.grounding) <= set(tool.input_schema.get("properties", {})), tool.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_tool_that_runs_without_confirmation_does_not_call_itself_destructive(path: Path) -> None:
    manifest, _ = read_manifest(path)
    for tool in manifest.specs():
        if tool.policy == "read":
            assert tool.annotations.get("destructiveHint") is not True, tool.name
            assert tool.annotations.get("readOnlyHint") is not False, tool.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_launches_are_portable_and_hold_no_secret(path: Path) -> None:
    manifest, _ = read_manifest(path)
    assert manifest.launch.command in ("npx", "uvx", "${NEEDLE_PYTHON}")
    assert not re.search(r"/(home|root|tmp|Users|usr)/", " ".join(manifest.launch.args))
    assert all(re.fullmatch(r"\$\{[A-Z_]+(:-[^}]*)?\}", value) for value in manifest.launch.env.values())


async def test_desk_still_is_as_its_manifest_says(tmp_path: Path) -> None:
    shipped, _ = read_manifest(paths.shipped("tool_manifests") / "desk.json")
    arguments = ("-m", "needle_mcp.samples.desk", "--db", str(tmp_path / "desk.db"))
    with anyio.fail_after(20):
        now, aside = await capture(ServerConfig(name="desk", command=sys.executable, args=arguments), base=shipped)
    assert (now.tools, now.pins, aside) == (shipped.tools, shipped.pins, ())
