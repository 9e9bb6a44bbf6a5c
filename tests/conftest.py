"""Fixtures that tests of several folders share."""

from pathlib import Path

import pytest
from tiny_gguf import write_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random-weight model that composes tool blocks."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_plain_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in a model that reads its tools as one text."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny-plain.gguf", composed=False)
