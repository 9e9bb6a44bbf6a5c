"""The decode loop: one answer under one grammar, greedily."""

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from needle_mcp.planner.engine import Finish, TokenScore
from needle_mcp.planner.matcher import Matcher
from needle_mcp.planner.memory import Memory
from needle_mcp.planner.vocab import Vocabulary
from needle_mcp.planner.watch import Watch


class Decoding:
    """One answer in the making; what was decoded so far stays readable when it is interrupted."""

    def __init__(
        self, matcher: Matcher, memory: Memory, vocabulary: Vocabulary, prompt: list[int], *, limit: int, watch: Watch
    ) -> None:
        self.scores: list[TokenScore] = []
        self.forced = 0
        self.reused = 0
        self.first_logits: float | None = None
        """`time.perf_counter()` when the prompt had been read."""
        self._matcher = matcher
        self._memory = memory
        self._vocabulary = vocabulary
        self._watch = watch
        self._limit = limit
        self._prompt_length = len(prompt)
        self._tokens = list(prompt)

    @property
    def answer(self) -> list[int]:
        """Token ids without the final END."""
        return self._tokens[self._prompt_length :]

    def run(self) -> Finish:
        """Decode to the end of the grammar or of the budget. Raises: GrammarError, Interrupted."""
        while True:
            self._watch.check()
            whole = self._extend(self._matcher.forced())
            if whole and self._matcher.complete:
                return Finish.STOP
            if self._room == 0:
                return Finish.LENGTH
            allowed = self._matcher.allowed()
            if allowed.size == 0:
                return Finish.DEAD_END
            if allowed.size == 1:
                # The grammar leaves one token: no need to ask the model, it will read it with the next ones.
                token = int(allowed[0])
                self.forced += token != self._vocabulary.end
            else:
                token = self._choose(allowed)
            self._matcher.consume(token)
            if token == self._vocabulary.end:
                return Finish.STOP
            self._tokens.append(token)

    @property
    def _room(self) -> int:
        return self._limit - (len(self._tokens) - self._prompt_length)

    def _extend(self, forced: list[int]) -> bool:
        """Append what the grammar forced as far as the budget goes; whether it went all the way."""
        if forced and forced[-1] == self._vocabulary.end:
            forced = forced[:-1]
        kept = forced[: self._room]
        self._tokens += kept
        self.forced += len(kept)
        return len(kept) == len(forced)

    def _choose(self, allowed: NDArray[np.intp]) -> int:
        logits, kept = self._memory.logits(self._tokens, watch=self._watch)
        if self.first_logits is None:
            self.first_logits = time.perf_counter()
            self.reused += kept
        token, logprob, margin, mass = best(logits, allowed)
        index = len(self._tokens) - self._prompt_length
        spelled = self._vocabulary.spelled(token)
        self.scores.append(TokenScore(index=index, text=spelled, logprob=logprob, margin=margin, mass=mass))
        return token


def best(logits: NDArray[Any], allowed: NDArray[np.intp]) -> tuple[int, float, float, float]:
    """The likeliest of two or more allowed tokens, its log-probability and margin among them, and the mass of all."""
    every = logits.astype(np.float64)
    candidates = every[allowed]
    winner = int(candidates.argmax())
    top = float(candidates[winner])
    among = math.log(float(np.exp(candidates - top).sum()))
    candidates[winner] = -np.inf
    peak = float(every.max())
    total = peak + math.log(float(np.exp(every - peak).sum()))
    margin = top - float(candidates.max())
    return int(allowed[winner]), 0.0 - among, margin, min(1.0, math.exp(top + among - total))
