"""needle-mcp: a small distilled model does the tool calling, locally, and hands over what it cannot handle."""

__version__ = "0.1.0"
