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
from needle_mcp.types import Context


@dataclass(frozen=True, kw_only=True, slots=True)
class FusionWeights:
    """How much the words count. Fitted on held-back domains with `needle-mcp distill evaluate`."""

    name: float = 12.0
    """Log-weight of a tool that has all the words of the request, against one that has none."""
    abstain: float = 4.0
    """Log-weight of abstaining when no tool has any of the words; less as the best one has more of them."""
    abstain_until: float = 0.35
    """Share of the words at which the best tool speaks neither for nor against abstaining."""


FUSION = FusionWeights()


def prior(context: Context, labels: Sequence[str], weights: FusionWeights) -> Prior:
    """What the words alone say: a log-weight for each name, and one for abstaining."""
    ranked = Shortlist(context.tools).top(context.request.text, len(context.tools))
    scores = {item.tool.qualified: item.score for item in ranked}
    names = {label: weights.name * scores[tool.qualified] for label, tool in zip(labels, context.tools, strict=True)}
    best = max(scores.values(), default=0.0)
    return Prior(names=names, specials={Special.NONE: weights.abstain * (1.0 - best / weights.abstain_until)})


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
