"""A llama.cpp batch over numpy arrays, so that filling it costs no Python loop."""

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np


class Batch:
    """Tokens for one `llama_decode`, of one sequence or of several; at most `capacity` of them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._token = np.zeros(capacity, np.int32)
        self._position = np.zeros(capacity, np.int32)
        self._sequence = np.zeros(capacity, np.int32)
        self._output = np.zeros(capacity, np.int8)
        # llama.cpp wants a list of sequences for each token: ours are lists of one, side by side in `_sequence`.
        self._counts = np.ones(capacity, np.int32)
        self._lists = np.arange(capacity, dtype=np.uintp) * self._sequence.itemsize + self._sequence.ctypes.data
        self._native = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._token, ctypes.c_int32),
            pos=_pointer(self._position, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._lists, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._output, ctypes.c_int8),
        )

    @property
    def room(self) -> int:
        """Tokens that can still be added."""
        return self.capacity - self._native.n_tokens

    def add(self, tokens: Sequence[int], *, position: int, sequence: int) -> None:
        """Append tokens of one sequence from `position` on."""
        start = self._native.n_tokens
        end = start + len(tokens)
        self._token[start:end] = tokens
        self._position[start:end] = np.arange(position, position + len(tokens))
        self._sequence[start:end] = sequence
        self._native.n_tokens = end

    def clear(self) -> None:
        """Forget what was added."""
        self._native.n_tokens = 0

    def decode(self, context: Any, *, output: bool) -> None:
        """Run the batch and empty it; with `output` the logits of its last token can be read afterwards."""
        count = self._native.n_tokens
        self._output[count - 1] = output
        status = llama_cpp.llama_decode(context, self._native)
        self._output[count - 1] = False
        self._native.n_tokens = 0
        if status != 0:
            # The state of the cache is unknown now. The worker ends with this and starts afresh with the next request.
            raise RuntimeError(f"llama_decode failed with status {status} on {count} tokens")


def _pointer(array: Any, kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
