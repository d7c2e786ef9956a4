"""Check params.yaml, then write what should make timings stale to metrics/env.json."""

from __future__ import annotations

import _project  # noqa: F401  (puts the project's folder on the path)

from bench.core.errors import run_stage
from bench.core.files import write_json
from bench.core.params import runtime_names
from bench.core.paths import ENVIRONMENT
from bench.machine.environment import probe_environment
from bench.runtimes.base.check_params import check_params
from bench.runtimes.base.registry import import_runtime


def main() -> None:
    params = check_params()
    libraries = {name: import_runtime(name).LIBRARIES for name in runtime_names()}
    environment = probe_environment(libraries, params.timing.gpu_index)
    write_json(ENVIRONMENT, environment)
    gpu = environment["cuda"]
    print(f"cpu: {environment['cpu']['model']}, {environment['cpu']['cores']} cores")
    print(f"gpu: {gpu['gpu']} (1 of {gpu['count']}), driver {gpu['driver']}" if gpu else "gpu: none found")


if __name__ == "__main__":
    run_stage(main)
