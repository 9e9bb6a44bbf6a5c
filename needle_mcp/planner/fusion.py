"""The choice of the tool has two witnesses: the model, and the words that request and tool share.

A small model early in its training is often unsure of names while plain word statistics are not, and the other way
round for requests that share no word with their tool. Shallow fusion adds a log-weight for each name to the model's
own probabilities, token by token, so that names with a common beginning share their weight until they part.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from needle_mcp.planner.engine import Prior
from needle_mcp.planner.prompt import Special
from needle_mcp.tools.shortlist import Shortlist
from needle_mcp.types import Context, ToolSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class FusionWeights:
    """How much the words count. Fitted on held-back domains with `needle-mcp distill evaluate`."""

    name: float = 12.0
    """Log-weight of a tool that has all the words of the request, against one that has none."""
    abstain: float = 4.0
    """Log-weight of abstaining when no tool has any of the words; less as the best one has more of them."""
    abstain_until: float = 0.35
    """Share of the words at which the best tool speaks neither for nor against abstaining."""
    done: float = 8.0
    """Log-weight of being done when no tool that hasn't been called has any of the words that are left."""
    done_until: float = 0.5
    """Share of the words that are left at which such a tool speaks neither for nor against being done."""


FUSION = FusionWeights()


def prior(context: Context, labels: Sequence[str], weights: FusionWeights) -> Prior:
    """What the words alone say: a log-weight for each name, and for abstaining or, after results, for being done."""
    index = Shortlist(context.tools)
    scores = _scores(index, context.request.text, len(context.tools))
    names = {label: weights.name * scores[tool.qualified] for label, tool in zip(labels, context.tools, strict=True)}
    if not context.steps:
        best = max(scores.values(), default=0.0)
        return Prior(names=names, specials={Special.NONE: weights.abstain * (1.0 - best / weights.abstain_until)})
    called = {step.call.tool for step in context.steps}
    rest = _unaccounted(context, index, [tool for tool in context.tools if tool.qualified in called])
    left = _scores(index, rest, len(context.tools))
    best = max((score for tool, score in left.items() if tool not in called), default=0.0)
    return Prior(names=names, specials={Special.END: weights.done * (1.0 - best / weights.done_until)})


def _scores(index: Shortlist, text: str, count: int) -> dict[str, float]:
    return {item.tool.qualified: item.score for item in index.top(text, count)}


def _unaccounted(context: Context, index: Shortlist, called: Sequence[ToolSpec]) -> str:
    """The request without the words that the calls made so far have used, and those that their tools are about."""
    text = context.request.text
    used = [place for step in context.steps for place in step.call.provenance if place.source == "request"]
    kept = [char for at, char in enumerate(text) if not any(place.start <= at < place.end for place in used)]
    words = "".join(kept).split()
    return " ".join(word for word in words if not any(index.coverage(word, tool) for tool in called))


class NameBonus:
    """Turns weights of names into weights of the next token, given the part of a name that stands already."""

    def __init__(self, names: Mapping[str, float]) -> None:
        # The space after a name is part of it: without it `list` could not be told from the beginning of `list_all`.
        self._names = [(f"{name} ".encode(), weight) for name, weight in names.items()]

    def of(self, written: bytes, token: bytes) -> float:
        """Log-weight of going on with `token` after `written`, 0 where the names say nothing about it."""
        before = self._weight(written)
        after = self._weight(written + token)
        return after - before if math.isfinite(before) and math.isfinite(after) else 0.0

    def _weight(self, written: bytes) -> float:
        """Logarithm of the summed weights of the names that can still come."""
        left = [weight for name, weight in self._names if name.startswith(written) or written.startswith(name)]
        if not left:
            return -math.inf
        top = max(left)
        return top + math.log(sum(math.exp(weight - top) for weight in left))
