"""What can be said of a GGUF file without loading it."""

import hashlib
import struct
from pathlib import Path

from needle_mcp.errors import ModelFileError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_HEADER = struct.Struct("<4sIQQ")
_MOST_ENTRIES = 65_536
"""More tensors or metadata than any model has: a damaged header, which a loader would reserve memory for."""


def check(path: Path) -> None:
    """Raises: ModelFileError where the file is missing, isn't readable or doesn't begin as a GGUF file does."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
    except FileNotFoundError:
        raise ModelFileError(f"There is no model file {str(path)!r}.", hint="Check the path of the model.") from None
    except OSError as error:
        raise ModelFileError(f"The model file {str(path)!r} cannot be read: {error.strerror}.") from error
    if not header.startswith(_MAGIC):
        raise ModelFileError(f"{path.name} is not a GGUF file.", hint="needle-mcp reads models in llama.cpp's format.")
    if len(header) < _HEADER.size:
        raise ModelFileError(f"{path.name} ends within its header.", hint="Fetch it again.")
    _, version, tensors, entries = _HEADER.unpack(header)
    if version not in _VERSIONS:
        raise ModelFileError(f"{path.name} has GGUF version {version}; versions 2 and 3 can be read.")
    if max(tensors, entries) > _MOST_ENTRIES:
        raise ModelFileError(f"{path.name} has a damaged header: {tensors} tensors, {entries} entries.")


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
