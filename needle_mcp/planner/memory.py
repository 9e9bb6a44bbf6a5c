"""The keys and values that the context holds, and how much of them the next prompt can reuse.

Sequence 0 is the prompt and its answer. Every other sequence holds one tool block, decoded by itself from
position 0. To show a shortlist to the model its blocks are copied into sequence 0, which in a unified cache
only tags the cells, and the prompt goes on at the length of the longest block: llama.cpp demands that a
sequence's positions have no gap. A model that doesn't compose tools is shown none, and has them in the prompt.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, cast

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from needle_mcp.planner.batch import Batch
from needle_mcp.planner.watch import Interrupted, Watch

Tokens: TypeAlias = tuple[int, ...]


class Memory:
    """Owns what is in a llama.cpp context with a unified cache of `cells` cells and `sequences` sequences."""

    def __init__(self, context: Any, *, cells: int, sequences: int, vocabulary: int, batch: int) -> None:
        self.cells = cells
        self._context = context
        self._memory = cast(Any, llama_cpp.llama_get_memory(context))
        self._vocabulary = vocabulary
        self._batch = Batch(batch)
        self._free = list(range(sequences - 1, 0, -1))
        self._blocks: OrderedDict[Tokens, int] = OrderedDict()
        """Sequence of each block in the cache, the least recently used first."""
        self._shown: frozenset[Tokens] = frozenset()
        self._start = 0
        self._held: list[int] = []
        """Tokens of sequence 0 after the blocks."""

    def show(self, blocks: Iterable[Tokens], *, room: int, watch: Watch) -> int:
        """Let sequence 0 see these blocks and no others, with `room` cells left for the prompt if at all possible.

        Returns how many tokens of the blocks were in the cache. Raises: Interrupted.
        """
        wanted = frozenset(blocks)
        if wanted != self._shown:
            llama_cpp.llama_memory_seq_rm(self._memory, 0, -1, -1)
            self._held, self._shown, self._start = [], frozenset(), 0
        # Sorted: the same blocks in another order get the same cells, so results are the same to the bit.
        missing = sorted(block for block in wanted if block not in self._blocks)
        self._evict(sum(map(len, missing)) + room, len(missing), keep=wanted)
        self._decode_blocks(missing, watch)
        if wanted != self._shown:
            for block in wanted:
                llama_cpp.llama_memory_seq_cp(self._memory, self._blocks[block], 0, -1, -1)
            self._shown, self._start = wanted, max(map(len, wanted), default=0)
        for block in sorted(wanted):
            self._blocks.move_to_end(block)
        return sum(len(block) for block in wanted.difference(missing))

    def logits(self, prompt: Sequence[int], *, watch: Watch) -> tuple[NDArray[np.float32], int]:
        """Logits after `prompt`, and how many of its tokens were in the cache. The array is valid until the next call.

        Raises: Interrupted.
        """
        kept = min(_common(self._held, prompt), len(prompt) - 1)
        if kept < len(self._held):
            llama_cpp.llama_memory_seq_rm(self._memory, 0, self._start + kept, -1)
            del self._held[kept:]
        while len(self._held) < len(prompt):
            watch.check()
            done = len(self._held)
            part = prompt[done : done + self._batch.capacity]
            self._batch.add(part, position=self._start + done, sequence=0)
            self._batch.decode(self._context, output=done + len(part) == len(prompt))
            self._held += part
        pointer = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(pointer, shape=(self._vocabulary,)), kept

    def _decode_blocks(self, blocks: Sequence[Tokens], watch: Watch) -> None:
        """Decode blocks side by side, each in a free sequence."""
        fresh = dict(zip(blocks, reversed(self._free), strict=False))
        try:
            for block, sequence in fresh.items():
                done = 0
                while done < len(block):
                    part = block[done : done + self._batch.room]
                    self._batch.add(part, position=done, sequence=sequence)
                    done += len(part)
                    if not self._batch.room:
                        watch.check()
                        self._batch.decode(self._context, output=False)
            if fresh and self._batch.room < self._batch.capacity:
                watch.check()
                self._batch.decode(self._context, output=False)
        except Interrupted:
            self._batch.clear()
            for sequence in fresh.values():
                llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)
            raise
        self._blocks.update(fresh)
        del self._free[len(self._free) - len(fresh) :]

    def _evict(self, cells: int, sequences: int, *, keep: frozenset[Tokens]) -> None:
        used = sum(map(len, self._blocks))
        for block in [block for block in self._blocks if block not in keep]:
            if self.cells - used >= cells and len(self._free) >= sequences:
                return
            llama_cpp.llama_memory_seq_rm(self._memory, self._blocks[block], -1, -1)
            self._free.append(self._blocks.pop(block))
            used -= len(block)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    if left == right[: len(left)]:
        return len(left)
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(left), len(right)))
