"""MCP servers that come with the package, to try it with and to test it against."""
