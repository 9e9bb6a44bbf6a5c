"""The decode loop: one answer under one grammar, greedily."""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from needle_mcp.planner.engine import Finish, TokenScore
from needle_mcp.planner.matcher import Matcher
from needle_mcp.planner.memory import Memory, Tokens
from needle_mcp.planner.vocab import Vocabulary
from needle_mcp.planner.watch import Watch


class Decoding:
    """One answer in the making; what was decoded so far stays readable when it is interrupted."""

    def __init__(
        self,
        matcher: Matcher,
        memory: Memory,
        vocabulary: Vocabulary,
        prompt: Sequence[Tokens],
        *,
        limit: int,
        watch: Watch,
    ) -> None:
        self.answer: list[int] = []
        """Token ids without the final END."""
        self.scores: list[TokenScore] = []
        self.forced = 0
        self.known = 0
        """Tokens of the prompt that didn't have to be read."""
        self.prompt_read: float | None = None
        """`time.perf_counter()` when the prompt had been read."""
        self._matcher = matcher
        self._memory = memory
        self._vocabulary = vocabulary
        self._prompt = prompt
        self._limit = limit
        self._watch = watch
        self._answer_read = 0

    def run(self) -> Finish:
        """Decode to the end of the grammar or of the budget. Raises: GrammarError, Interrupted."""
        while True:
            self._watch.check()
            whole = self._extend(self._matcher.forced())
            if whole and self._matcher.complete:
                return Finish.STOP
            if len(self.answer) == self._limit:
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
            self.answer.append(token)

    def _extend(self, forced: list[int]) -> bool:
        """Append what the grammar forced as far as the budget goes; whether it went all the way."""
        if forced and forced[-1] == self._vocabulary.end:
            forced = forced[:-1]
        kept = forced[: self._limit - len(self.answer)]
        self.answer += kept
        self.forced += len(kept)
        return len(kept) == len(forced)

    def _choose(self, allowed: NDArray[np.intp]) -> int:
        token, logprob, margin, mass = best(self._logits(), allowed)
        spelled = self._vocabulary.spelled(token)
        self.scores.append(TokenScore(index=len(self.answer), text=spelled, logprob=logprob, margin=margin, mass=mass))
        return token

    def _logits(self) -> NDArray[np.float32]:
        """After all that was decoded so far; forced tokens are read together with the token before them."""
        unread = self.answer[self._answer_read :]
        self._answer_read = len(self.answer)
        if self.prompt_read is not None:
            return self._memory.extend(unread, watch=self._watch)
        *first, last = self._prompt
        logits, known = self._memory.read([*first, (*last, *unread)], watch=self._watch)
        self.known += known
        self.prompt_read = time.perf_counter()
        return logits


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
