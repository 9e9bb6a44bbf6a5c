"""How long planning takes, stage by stage, on a realistic mix of requests. No server is started."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from statistics import quantiles

from needle_mcp.errors import ConfigError
from needle_mcp.limits import LIMITS, Limits
from needle_mcp.planner.engine import Engine
from needle_mcp.planner.planner import Planner
from needle_mcp.tools.shortlist import Shortlist
from needle_mcp.types import Context, Request, Timings, ToolSpec

REQUESTS = (
    "set a timer for 10 minutes",
    "convert 5 miles to kilometres",
    "add buy milk to my to-do list for tomorrow",
    "make a note that the spare key is with the neighbours",
    "what's on my list",
    "uh can you um tick off buy milk please",
    "find the note about the key",
    "what time is it in Tokyo",
    "read the file notes/todo.txt",
    "show me the last 5 commits in /home/me/project",
    "who won the football match yesterday",
    "start a timer",
)
STAGES = tuple(field.name for field in fields(Timings))


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantiles:
    """Milliseconds."""

    p50: float
    p95: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What was measured with one number of tools."""

    tools: int
    plans: int
    start_ms: float
    """From no worker to a loaded model; 0 where it ran already."""
    cold: Timings
    """The first plan with these tools."""
    warm: dict[str, Quantiles]
    """By stage."""


async def measure(
    engine: Engine, tools: Sequence[ToolSpec], count: int, runs: int, *, limits: Limits = LIMITS
) -> Bench:
    """Plan every request `runs` times with the first `count` tools in the catalogue.

    *Raises:* ConfigError where there are fewer tools, and what `Planner.plan` raises for the first request.
    """
    if count > len(tools):
        raise ConfigError(f"There are only {len(tools)} tools in the manifests.", hint="Ask for fewer with --tools.")
    started = time.perf_counter()
    await engine.info()
    start_ms = (time.perf_counter() - started) * 1e3
    planner, shortlist = Planner(engine, limits=limits), Shortlist(tools[:count])
    cold = await _time(planner, shortlist, REQUESTS[0], limits)
    warm = [await _time(planner, shortlist, text, limits) for _ in range(runs) for text in REQUESTS]
    return Bench(
        tools=count,
        plans=len(warm),
        start_ms=start_ms,
        cold=cold,
        warm={stage: _quantiles([getattr(one, stage) for one in warm]) for stage in STAGES},
    )


async def _time(planner: Planner, shortlist: Shortlist, text: str, limits: Limits) -> Timings:
    started = time.perf_counter()
    chosen = tuple(ranked.tool for ranked in shortlist.top(text, limits.shortlist))
    listed = (time.perf_counter() - started) * 1e3
    plan = await planner.plan(Context(request=Request(text=text), tools=chosen))
    return replace(plan.timings, shortlist=listed, total=plan.timings.total + listed)


def _quantiles(values: Sequence[float]) -> Quantiles:
    cuts = quantiles(values, n=20, method="inclusive")
    return Quantiles(p50=round(cuts[9], 3), p95=round(cuts[18], 3))
