"""The double that ships with the package."""

import pytest

from needle_mcp.errors import FrontierError, FrontierUnavailable
from needle_mcp.frontier.base import FrontierModel, Message, Reply
from needle_mcp.frontier.scripted import ScriptedFrontier

ASK = [Message(role="user", text="hi")]


async def test_it_answers_in_order_and_keeps_what_it_was_sent() -> None:
    scripted = ScriptedFrontier([Reply(text="one"), FrontierUnavailable("down"), lambda sent: Reply(text=sent.system)])
    model: FrontierModel = scripted
    assert (await model.complete("S", ASK, [], 1.0)).text == "one"
    with pytest.raises(FrontierUnavailable):
        await model.complete("S", ASK, [], 1.0)
    assert (await model.complete("last", ASK, [], 1.0)).text == "last"
    with pytest.raises(FrontierError, match="no answer left"):
        await model.complete("S", ASK, [], 1.0)
    assert [sent.system for sent in scripted.sent] == ["S", "S", "last", "S"]


def test_the_same_input_gives_the_same_bytes() -> None:
    scripted = ScriptedFrontier()
    assert scripted.encode("S", ASK, []) == scripted.encode("S", ASK, [])
    assert scripted.encode("S", ASK, []) != scripted.encode("T", ASK, [])
