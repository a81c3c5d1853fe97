"""`agent-rl report`: runs as one HTML page, with their episodes."""
