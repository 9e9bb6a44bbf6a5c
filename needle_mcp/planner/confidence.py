"""How sure a plan is, from what the decode knew of itself."""

import math

from needle_mcp.planner.engine import Decode, Finish


def confidence(decode: Decode) -> float:
    """The model's own probability of the whole answer under the grammar, 0 to 1.

    The product over all choices, times the share of the first distribution that the grammar allowed: a model that
    wanted to say something else altogether is not sure, however clear the rest was.
    """
    if decode.finish is not Finish.STOP:
        return 0.0
    wanted = decode.scores[0].mass if decode.scores else 1.0
    return wanted * math.exp(sum(score.logprob for score in decode.scores))
