"""Where the keys and values of tool blocks are kept."""

import ctypes
import os

import pytest

from needle_mcp.planner.store import Store


def state(byte: int, size: int = 40) -> object:
    return (ctypes.c_uint8 * size)(*[byte] * size)


def test_a_state_comes_back_as_it_was() -> None:
    store = Store()
    for key in range(5):
        store.put((key,), state(key, 10 + key))
    assert [bytes(store.get((key,))) for key in range(5)] == [bytes([key]) * (10 + key) for key in range(5)]
    assert (3,) in store
    assert (7,) not in store


def test_a_full_store_begins_anew_and_keeps_its_bound() -> None:
    store = Store(most_bytes=100)
    for key in range(9):
        store.put(key, state(key))
        assert bytes(store.get(key)) == bytes([key]) * 40
        assert os.fstat(store._file.fileno()).st_size <= 100
    assert 0 not in store


def test_a_full_disk_loses_what_is_kept_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    store.put("before", state(1))

    def full(*_: object) -> int:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        store.put("lost", state(2))
    assert "lost" not in store
    store.put("after", state(3))
    assert bytes(store.get("after")) == b"\x03" * 40
