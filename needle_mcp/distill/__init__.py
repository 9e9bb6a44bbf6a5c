"""From request data to a planner in GGUF: sources → examples → tokenizer → student → GGUF. Needs the `distill`
extra."""
