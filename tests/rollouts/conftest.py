import sys
from pathlib import Path

# The helper modules of this folder (number_env, models, scripted) are imported by name, in Ray's workers too.
sys.path.insert(0, str(Path(__file__).parent))
