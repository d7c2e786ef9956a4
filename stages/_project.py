"""What every stage starts with: the project's folder on the import path, and the libraries' own defaults.

`given` holds the environment variables as the user's shell gave them; those that would change what a library computes
or how fast are taken out before any library is imported.
"""

import importlib.util
import os
import sys
from pathlib import Path

NEEDED = ("filelock", "numpy", "psutil", "pydantic", "ruamel")
given = dict(os.environ)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(
        f"error: the stages run with {sys.executable}, which has no {', '.join(missing)}: use "
        "`python run.py dvc repro`, or activate the environment that requirements.txt is installed in"
    )

from bench.core.variables import is_cleared  # noqa: E402

for name in given:
    if is_cleared(name):
        del os.environ[name]
