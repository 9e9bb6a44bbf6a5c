"""What the tests of the command line call their fixtures."""

from pathlib import Path
from typing import Any, Protocol

from click.testing import Result


class Needle(Protocol):
    """Runs the command line with a home of its own."""

    def __call__(self, *args: str, input: str = "") -> Result: ...


class Configure(Protocol):
    """Writes `needle.json` with these servers, or with the sample server, and needle's own settings."""

    def __call__(self, servers: dict[str, Any] | None = None, **needle: Any) -> Path: ...
