"""A context in, a plan out: evidence, prompt and grammar, one decode, parsed, validated and weighed."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from needle_mcp.limits import LIMITS, Limits
from needle_mcp.planner import evidence, grammar, prompt
from needle_mcp.planner.confidence import confidence
from needle_mcp.planner.engine import NO_PRIOR, DecodeBudget, Engine
from needle_mcp.planner.fusion import FUSION, FusionWeights, prior
from needle_mcp.planner.parse import Parsed, parse
from needle_mcp.types import Context, Plan, PlanKind, Timings, ToolSpec


class Planner:
    """Plans with one engine. Stateless between plans: the same context gives the same plan."""

    def __init__(self, engine: Engine, *, limits: Limits = LIMITS, fusion: FusionWeights | None = FUSION) -> None:
        """`fusion`: how much the words count beside the model; None: the model chooses alone."""
        self._engine = engine
        self._fusion = fusion
        self._limits = limits

    async def plan(self, context: Context) -> Plan:
        """What to do next in this context.

        Raises: PlannerError in its kinds, ModelFileError where there is no usable model.
        """
        started = time.perf_counter()
        if not context.tools:
            return Plan(kind=PlanKind.NONE, confidence=1.0, reason="No tool is in view.")
        after_results = bool(context.steps)
        rendered = prompt.render(context)
        found = evidence.gather(context)
        built = grammar.build(context.tools, rendered.labels, found, after_results=after_results)
        budget = DecodeBudget(tokens=self._limits.plan_tokens, seconds=self._limits.plan_seconds)
        leaning = prior(context, rendered.labels, self._fusion) if self._fusion else NO_PRIOR
        prepared = time.perf_counter()
        decode = await self._engine.generate(rendered, built.text, budget, leaning)
        answered = time.perf_counter()
        by_label = dict(zip(rendered.labels, context.tools, strict=True))
        parsed = parse(decode, by_label, found, after_results=after_results)
        sure = confidence(decode) if not parsed.problem else 0.0
        ended = time.perf_counter()
        worker_ms = decode.grammar_ms + decode.prefill_ms + decode.decode_ms
        return Plan(
            kind=parsed.kind,
            calls=parsed.calls,
            confidence=sure,
            reason=_reason(parsed, by_label),
            ask=parsed.ask,
            ask_tool=parsed.ask_tool,
            text=decode.text,
            timings=Timings(
                grammar=(prepared - started) * 1e3 + decode.grammar_ms,
                prefill=decode.prefill_ms,
                decode=decode.decode_ms,
                parse=(ended - answered) * 1e3,
                ipc=max(0.0, (answered - prepared) * 1e3 - worker_ms),
                total=(ended - started) * 1e3,
            ),
        )


def _reason(parsed: Parsed, tools: Mapping[str, ToolSpec]) -> str:
    if parsed.problem:
        return parsed.problem
    match parsed.kind:
        case PlanKind.NONE:
            return "None of the tools in view serves this request."
        case PlanKind.ASK:
            tool = next(tool for tool in tools.values() if tool.qualified == parsed.ask_tool)
            return question(tool, parsed.ask)
        case _:
            return ""


def question(tool: ToolSpec, missing: Sequence[str]) -> str:
    """What to ask a person for, from the parameters' own descriptions."""
    properties = cast(Mapping[str, Mapping[str, Any]], tool.input_schema.get("properties") or {})
    wanted = [_described(name, properties.get(name) or {}) for name in missing]
    return f"To use {tool.name}, I need: {'; '.join(wanted)}."


def _described(name: str, schema: Mapping[str, Any]) -> str:
    description = str(schema.get("description") or "").strip().rstrip(".")
    choices = schema.get("enum")
    listed = f" ({', '.join(map(str, cast(list[Any], choices)))})" if isinstance(choices, list) else ""
    return f"{name}{listed}: {description}" if description else f"{name}{listed}"
