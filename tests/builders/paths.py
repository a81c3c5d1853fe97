"""Where the repository is."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "agent_rl" / "objective" / "gmpo_vectors.json"
"""Reference losses and gradients of GMPO."""
