"""Keys and values of tool blocks, in a file without a name: a thousand tools take hundreds of megabytes.

The system's page cache keeps the blocks that are in use in memory, and gives that memory up when others need it.
"""

import ctypes
import os
import tempfile
from collections.abc import Hashable
from typing import Any

_MOST_BYTES = 512 * 1024 * 1024


class Store:
    """States by key; begins anew when it is full."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._file = tempfile.TemporaryFile()
        self._places: dict[Hashable, tuple[int, int]] = {}
        self._end = 0
        self._scratch = bytearray()
        """Read into again and again: fresh memory for each state would take longer than reading it."""

    def __contains__(self, key: Hashable) -> bool:
        return key in self._places

    def get(self, key: Hashable) -> Any:
        """A state that is known, as an array of bytes that is valid until the next call."""
        offset, size = self._places[key]
        if len(self._scratch) < size:
            self._scratch = bytearray(size)
        state = (ctypes.c_uint8 * size).from_buffer(self._scratch)
        if os.preadv(self._file.fileno(), [state], offset) != size:
            raise RuntimeError("the store of tool blocks has lost some of its file")
        return state

    def put(self, key: Hashable, state: Any) -> None:
        """Keep a state if there is room for it on the disk."""
        size = len(state)
        if self._end + size > self._most_bytes:
            self._begin_anew()
        try:
            written = os.pwrite(self._file.fileno(), state, self._end)
        except OSError:
            # A full disk costs time and nothing else.
            self._begin_anew()
            return
        if written == size:
            self._places[key] = (self._end, size)
            self._end += size

    def close(self) -> None:
        """Give the disk space back."""
        self._file.close()

    def _begin_anew(self) -> None:
        self._places.clear()
        self._end = 0
        self._file.truncate(0)
