"""`python -m needle_mcp` is the command line."""

from needle_mcp.cli import main

if __name__ == "__main__":
    main()
