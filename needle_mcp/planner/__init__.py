"""From a context to calls: prompt, grammar, constrained decoding, plan."""
