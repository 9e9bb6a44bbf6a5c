"""Ending in an orderly way when SIGINT or SIGTERM comes."""

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
from anyio.abc import TaskStatus

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Stop:
    """Whether a signal ended the body, and which."""

    number: signal.Signals | None = None


@asynccontextmanager
async def stopped_by_signals() -> AsyncGenerator[Stop]:
    """Cancel the body at the first SIGINT or SIGTERM. Later ones are ignored while it cleans up."""
    stop = Stop()
    async with anyio.create_task_group() as tasks:

        async def watch(*, task_status: TaskStatus[None]) -> None:
            with anyio.open_signal_receiver(*_SIGNALS) as signals:
                task_status.started()
                async for number in signals:
                    stop.number = stop.number or number
                    body.cancel()

        with anyio.CancelScope() as body:
            await tasks.start(watch)
            yield stop
        tasks.cancel_scope.cancel()


def take_effect(stop: Stop) -> None:
    """End the process by the signal that came, so that whoever waits for it sees that; return where none came."""
    if stop.number is not None:
        sys.stderr.flush()
        signal.signal(stop.number, signal.SIG_DFL)
        os.kill(os.getpid(), stop.number)
