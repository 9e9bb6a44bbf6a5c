"""Serving one client over stdin and stdout, until it closes them or a signal comes."""

import os
import signal
import sys

import anyio
from mcp.server import NotificationOptions, Server
from mcp.server.stdio import stdio_server

from needle_mcp.server.app import App

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


async def serve_stdio(server: Server[App]) -> None:
    """Serve until end of file. On SIGINT or SIGTERM all that was started is stopped, then the signal takes effect."""
    options = server.create_initialization_options(NotificationOptions(tools_changed=True))
    async with stdio_server() as (reading, writing), anyio.create_task_group() as tasks:
        got: list[signal.Signals] = []

        async def watch() -> None:
            with anyio.open_signal_receiver(*_SIGNALS) as signals:
                async for number in signals:
                    got.append(number)
                    serving.cancel()

        tasks.start_soon(watch)
        with anyio.CancelScope() as serving:
            await server.run(reading, writing, options)
        tasks.cancel_scope.cancel()
        if got:
            _die(got[0])


def _die(number: signal.Signals) -> None:
    # A thread still waits in a read of stdin, which nothing can interrupt, so an ordinary exit would wait with it.
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
