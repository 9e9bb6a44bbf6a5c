"""The engine without a model."""

import pytest

from needle_mcp.errors import EngineBusy, EngineCrashed
from needle_mcp.planner.engine import Decode, DecodeBudget, Finish
from needle_mcp.planner.prompt import Prompt, Special
from needle_mcp.planner.scripted import SCRIPTED_MODEL, ScriptedEngine, scripted_decode

PROMPT = Prompt(tools=(), tail=(Special.USER, "hello"), labels=())
NONE = (Special.NONE,)


async def test_replies_come_in_order_and_what_was_asked_is_kept() -> None:
    whole = scripted_decode(NONE, finish=Finish.LENGTH)
    engine = ScriptedEngine([whole, (Special.CALL, "stop {}"), EngineBusy("Full.")])
    engine.add(lambda prompt, grammar: (Special.ASK, f"{prompt.tail[1]} {grammar}"))
    budget = DecodeBudget(tokens=7)
    assert await engine.generate(PROMPT, "start: 1", budget) is whole
    assert (await engine.generate(PROMPT, "start: 2", budget)).text == "<|call|>stop {}"
    with pytest.raises(EngineBusy):
        await engine.generate(PROMPT, "start: 3", budget)
    assert (await engine.generate(PROMPT, "start: 4", budget)).segments == (Special.ASK, "hello start: 4")
    assert [asked.grammar for asked in engine.asked] == [f"start: {number}" for number in range(1, 5)]
    assert engine.asked[0].budget is budget
    assert await engine.info() is SCRIPTED_MODEL


async def test_a_script_that_has_run_out_says_so() -> None:
    with pytest.raises(EngineCrashed, match="no further reply"):
        await ScriptedEngine().generate(PROMPT, "start: 1", DecodeBudget())


def test_a_scripted_decode_is_as_sure_of_each_segment_as_told() -> None:
    decode = scripted_decode((Special.CALL, "stop {}"), logprob=-0.7)
    assert isinstance(decode, Decode)
    assert [(score.text, score.logprob) for score in decode.scores] == [("<|call|>", -0.7), ("stop {}", -0.7)]
