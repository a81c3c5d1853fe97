"""How large a report may be. Light: the command line shows the default."""

EPISODES_MB = 30.0
"""Megabytes of episodes in a page, as text. A browser opens as much at once."""
