"""Serve the row of this folder over HTTP:  python server.py [--host HOST] [--port PORT]

The variables that libraries read when they are imported are set first, as the measuring process had them.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from bench.core.variables import chosen_variables

FOLDER = Path(__file__).resolve().parent


def set_variables(folder: Path = FOLDER) -> None:
    """Set the variables that the row was measured with, and remove those that it was measured without."""
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0") if settings["device"] == "cuda" else None
    wanted = chosen_variables(os.environ, settings["cpu_threads"], gpu) | settings["variables"]
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--host", default="127.0.0.1", help="where it listens; 0.0.0.0: for everybody (default: %(default)s)"
    )
    parser.add_argument("--port", default=8000, type=int, help="default: %(default)s")
    given = parser.parse_args()
    set_variables()
    from bench.core.errors import BenchError
    from bench.deploy.app import run

    try:
        run(FOLDER, given.host, given.port)
    except BenchError as problem:
        sys.exit(f"error: {problem}")


if __name__ == "__main__":
    main()
