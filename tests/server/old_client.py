"""Run by a Python that has mcp 1.30: connects to needle-mcp as an older desktop client does, and prints what it saw."""

import json
import sys
from typing import Any

import anyio
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import ElicitResult


async def main() -> None:
    command, *args = sys.argv[1:]
    asked: list[str] = []

    async def agree(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"confirm": True})

    parameters = StdioServerParameters(command=command, args=args)
    async with stdio_client(parameters) as (reading, writing):
        async with ClientSession(reading, writing, elicitation_callback=agree) as session:
            hello: Any = await session.initialize()
            listed = await session.list_tools()
            note = {"tool": "desk.add_note", "arguments": {"text": "the key is here"}}
            result: Any = await session.call_tool("call", note)
    seen = {
        "protocol": hello.protocolVersion,
        "list_changed": hello.capabilities.tools.listChanged,
        "tools": [tool.name for tool in listed.tools],
        "asked": asked,
        "is_error": result.isError,
        "outcome": result.structuredContent,
    }
    sys.stdout.write(json.dumps(seen))


anyio.run(main)
