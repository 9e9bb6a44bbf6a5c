"""What the user has configured; `settings` says how the file looks and what comes before what."""

from needle_mcp.config.servers import ServerConfig
from needle_mcp.config.settings import CONFIG_NAME, ProviderSettings, Settings, load_settings
from needle_mcp.json_file import Problem

__all__ = ["CONFIG_NAME", "Problem", "ProviderSettings", "ServerConfig", "Settings", "load_settings"]
