"""A frontier model that answers from a script: for tests, ours and those of applications."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

from needle_mcp.errors import FrontierError
from needle_mcp.frontier.base import Message, Reply
from needle_mcp.types import ToolSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One completion that was asked for."""

    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    seconds: float


Scripted: TypeAlias = Reply | FrontierError | Callable[[Sent], Reply]


class ScriptedFrontier:
    """A `FrontierModel` that gives its answers in order, and keeps what it was sent in `sent`."""

    def __init__(self, answers: Iterable[Scripted] = ()) -> None:
        self._answers = list(answers)
        self.sent: list[Sent] = []

    @property
    def host(self) -> str:
        """Nowhere."""
        return "scripted.invalid"

    def enqueue(self, *answers: Scripted) -> None:
        """Add answers at the end."""
        self._answers += answers

    def encode(self, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> bytes:
        """A plain rendering, the same for the same input."""
        turns = [asdict(message) for message in messages]
        return json.dumps([system, turns, [tool.qualified for tool in tools]], default=dict).encode()

    async def complete(
        self, system: str, messages: Sequence[Message], tools: Sequence[ToolSpec], seconds: float
    ) -> Reply:
        """The next answer. *Raises:* the error that stands in its place, FrontierError after the last one."""
        sent = Sent(system=system, messages=tuple(messages), tools=tuple(tools), seconds=seconds)
        self.sent.append(sent)
        if not self._answers:
            raise FrontierError("The script has no answer left.", hint="Enqueue one more.")
        answer = self._answers.pop(0)
        if isinstance(answer, FrontierError):
            raise answer
        return answer if isinstance(answer, Reply) else answer(sent)

    async def aclose(self) -> None:
        """Nothing to close."""
