"""Check params.yaml, then write what should make timings stale to metrics/env.json."""

import os
from collections.abc import Iterator
from typing import Any

import _project

from bench.core import staleness
from bench.core.errors import run_stage
from bench.core.files import write_json
from bench.core.params import CONVERTED, runtime_names
from bench.core.paths import ENVIRONMENT, MACHINE, USER_INPUTS
from bench.core.variables import is_cleared
from bench.machine.can_run import required_graphs
from bench.machine.cores import thread_count, tokenizer_threads
from bench.machine.environment import machine_id, probe_environment
from bench.machine.gpus import VISIBLE
from bench.runtimes.base.check_params import check_params
from bench.runtimes.base.registry import import_runtime
from bench.sources.model_files import user_input_hashes


def main() -> None:
    params = check_params()
    for path in staleness.remove_leftovers(params):
        print(f"removed {path}: no row of that name is configured")
    libraries = {name: import_runtime(name).LIBRARIES for name in runtime_names()}
    environment = probe_environment(libraries, params.timing.gpu_index)
    thread_count(params.timing.cpu_threads)
    tokenizer_threads(params, "cpu")
    write_json(ENVIRONMENT, environment)
    write_json(MACHINE, {"id": machine_id(params.timing.gpu_index)})
    write_json(USER_INPUTS, user_input_hashes(params))
    staleness.fill_places(params)
    staleness.identify_clone(params)
    staleness.ensure_retry_tokens(params.tensorrt_variants)
    staleness.write_batches(params)
    staleness.write_required(CONVERTED, required_graphs(params, environment))
    for line in (*lines(environment), *(f"params.yaml: {remark}" for remark in params.remarks)):
        print(line)


def lines(environment: dict[str, Any]) -> Iterator[str]:
    """Yield what was found, and what is not passed on to the processes that measure."""
    cpu, gpu = environment["cpu"], environment["cuda"]
    quota = f", a quota of {cpu['quota_cpus']:g} CPUs" if "quota_cpus" in cpu else ""
    instructions = f", {cpu['instructions']}" if "instructions" in cpu else ""
    yield f"cpu: {cpu['model']}, {cpu['cores']} cores{quota}{instructions}"
    device = f"{gpu['gpu']} (1 of {gpu['count']}), driver {gpu['driver']}" if gpu else _why_no_gpu(environment)
    yield f"gpu: {device}"
    cleared = [f"{name}={value}" for name, value in sorted(_project.given.items()) if is_cleared(name)]
    if cleared:
        yield f"not passed on to what is measured, since it would change it: {', '.join(cleared)}"
    if environment["variables"]:
        found = (f"{name}={value}" for name, value in environment["variables"].items())
        yield f"in force while measuring, and recorded: {', '.join(found)}"


def _why_no_gpu(environment: dict[str, Any]) -> str:
    if "gpu_fault" in environment:
        return str(environment["gpu_fault"])
    hidden = os.environ.get(VISIBLE)
    return "none found" if hidden is None else f"none that CUDA_VISIBLE_DEVICES={hidden} leaves"


if __name__ == "__main__":
    run_stage(main)
