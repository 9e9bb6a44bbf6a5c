"""Why a connection to a server ended, in one sentence for people and the end of its stderr."""

from typing import cast

from pydantic import ValidationError

from needle_mcp.errors import NeedleError
from needle_mcp.runtime.text import plain
from needle_mcp.runtime.transport import Wire

_STDERR_SHOWN = 1_500
_MESSAGE_SHOWN = 300


def leaf(error: BaseException) -> BaseException:
    """The error inside nested groups that says most: one of ours if there is one, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [leaf(part) for part in cast("BaseExceptionGroup[BaseException]", error).exceptions]
    return next((found for found in leaves if isinstance(found, NeedleError)), leaves[0])


def first_fault(error: ValidationError) -> str:
    """The first fault that pydantic found; without the input, which does not belong into messages and logs."""
    fault = error.errors(include_input=False, include_url=False)[0]
    return f"{'.'.join(str(part) for part in fault['loc'][-3:])}: {fault['msg']}"


def explain(error: BaseException | None, wire: Wire) -> str:
    """Say what ended the connection: `error`, or with None the server itself."""
    sentence = _sentence(leaf(error) if error is not None else None, wire)
    if wire.noise:
        sentence += f" It wrote to stdout what is no MCP: {wire.noise!r}."
    stderr = wire.stderr()[-_STDERR_SHOWN:]
    return f"{sentence}\n{stderr}" if stderr else sentence


def _sentence(error: BaseException | None, wire: Wire) -> str:
    name = wire.config.name
    if isinstance(error, NeedleError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"Server {name!r} did not get ready within {wire.config.connect_seconds:g} seconds."
    if isinstance(error, ValidationError):
        return f"Server {name!r} does not speak MCP as it should: {first_fault(error)}."
    if wire.returncode is not None and wire.returncode < 0:
        return f"Server {name!r} was killed by signal {-wire.returncode}."
    if wire.returncode is not None and (error is None or wire.ended.is_set()):
        return f"Server {name!r} stopped with exit code {wire.returncode}."
    if error is None:
        return f"Server {name!r} closed the connection."
    message = plain(str(error)).strip().rstrip(".")[:_MESSAGE_SHOWN] or type(error).__name__
    return f"Server {name!r} failed: {message}."
