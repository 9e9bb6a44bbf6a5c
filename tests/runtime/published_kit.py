"""MCP servers that others publish, installed into a scratch folder; a test is skipped where that is not possible."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from needle_mcp import paths
from needle_mcp.config import ServerConfig
from needle_mcp.tools.manifest import Manifest, read_manifest

_INSTALL_SECONDS = 300


def manifest(server: str) -> Manifest:
    """The manifest that is shipped for `server`."""
    return read_manifest(paths.shipped("tool_manifests") / f"{server}.json")[0]


def filesystem(scratch: Path, root: Path) -> ServerConfig:
    """The npm server of files, at the version of its manifest, allowed to work in `root`."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, and the server of files is an npm package")
    source = manifest("filesystem").source
    _install(
        "npm", "install", "--no-audit", "--no-fund", "--prefix", str(scratch), f"{source.package}@{source.version}"
    )
    return _config("filesystem", scratch / "node_modules" / ".bin" / "mcp-server-filesystem", str(root))


def git(scratch: Path) -> ServerConfig:
    """The PyPI server of Git, at the version of its manifest."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    source = manifest("git").source
    # A folder of its own: the server needs an older SDK than this project.
    _install(sys.executable, "-m", "venv", str(scratch))
    _install(str(scratch / "bin" / "python"), "-m", "pip", "install", "-q", f"{source.package}=={source.version}")
    return _config("git", scratch / "bin" / source.package)


def _config(server: str, command: Path, *args: str) -> ServerConfig:
    known = manifest(server)
    return ServerConfig(
        name=server,
        command=str(command),
        args=args,
        policy=known.policy,
        hints=known.hints,
        pins=known.pins,
        connect_seconds=60,
    )


def _install(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} took more than {_INSTALL_SECONDS} seconds to install a published server")
    if done.returncode != 0:
        pytest.skip(f"a published server could not be installed: {done.stderr.strip()[-300:]}")
