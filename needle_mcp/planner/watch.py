"""When a running generation has to stop early."""

import threading
import time

from needle_mcp.planner.engine import Finish


class Interrupted(Exception):
    """The generation was cancelled or ran out of time."""

    def __init__(self, finish: Finish) -> None:
        super().__init__(finish)
        self.finish = finish


class Watch:
    """A deadline and a cancel flag, asked before each run of the model: llama.cpp itself is never interrupted."""

    def __init__(self, cancel: threading.Event, *, seconds: float) -> None:
        self._cancel = cancel
        self._deadline = time.monotonic() + seconds

    def check(self) -> None:
        """Raises: Interrupted."""
        if self._cancel.is_set():
            raise Interrupted(Finish.CANCELLED)
        if time.monotonic() >= self._deadline:
            raise Interrupted(Finish.TIMEOUT)
