"""Frontier models: where a request goes that the local planner does not handle."""
