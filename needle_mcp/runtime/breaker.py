"""When a failed server may be started again: exponential backoff with jitter, and a circuit that opens in the end."""

import random
from collections.abc import Callable

from needle_mcp.limits import Limits

_WINDOW_SECONDS = 60.0
_JITTER = (0.8, 1.2)


class Breaker:
    """Counts the failures of one server within the last minute.

    With more of them than `limits.restarts_per_minute` the circuit opens: one attempt follows after the longest
    backoff (half open); its success closes the circuit, its failure leaves it open.
    """

    def __init__(self, limits: Limits, *, jitter: Callable[[float, float], float] = random.uniform) -> None:
        self._limits = limits
        self._jitter = jitter
        self._failures: list[float] = []
        self.open = False

    def failed(self, now: float) -> float:
        """Record a failure at `now` (seconds, any steady clock); returns the seconds to wait before the next start."""
        self._failures = [*(at for at in self._failures if now - at < _WINDOW_SECONDS), now]
        self.open = self.open or len(self._failures) > self._limits.restarts_per_minute
        longest = self._limits.restart_backoff_max_seconds
        exponential = self._limits.restart_backoff_seconds * 2.0 ** (len(self._failures) - 1)
        return (longest if self.open else min(exponential, longest)) * self._jitter(*_JITTER)

    def succeeded(self) -> None:
        """Record a successful start; earlier failures still count for their minute, so that a crash loop is seen."""
        self.open = False

    def reset(self) -> None:
        """Forget everything: somebody asked for a restart."""
        self._failures, self.open = [], False
