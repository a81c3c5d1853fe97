"""How large a report may be. Light: the command line shows the default."""

EPISODES_MB = 30.0
"""Megabytes of packed episodes in a page, as base64 text. A browser still opens so many quickly."""
