"""The MCP surface: a small constant set of tools in front of all connected servers, over stdio and Streamable HTTP."""
