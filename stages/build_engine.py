"""Build the TensorRT engines of one variant: artifacts/engines/KEY with build.json."""

import sys

import _project  # noqa: F401

from bench.core.errors import EngineError, WorkerError, run_stage
from bench.core.files import replacing_folder, write_json
from bench.core.params import load_params
from bench.core.paths import ARTIFACTS, ENGINES
from bench.core.progress import log
from bench.core.reports import EngineRecord
from bench.core.schemas import read_environment
from bench.core.staleness import reason_not_made
from bench.machine.can_run import reason_to_skip
from bench.workers.engines import RECORD, build_engines


def main() -> None:
    key = sys.argv[1]
    params = load_params()
    variant = params.variant(key, runtime="tensorrt")
    environment = read_environment()
    reason = reason_to_skip(variant, environment) or ("" if params.is_on(variant.precision) else "its precision is off")
    not_made = reason_not_made(ARTIFACTS / variant.graph)
    with replacing_folder(ENGINES / key) as folder:
        if reason:
            record = EngineRecord(status="skipped", reason=reason)
        elif not_made:
            record = EngineRecord(status="rejected", reason=not_made)
        else:
            try:
                record = build_engines(key, variant, params, environment, folder)
            except (EngineError, WorkerError) as problem:  # fails its row alone
                record = EngineRecord(status="failed", reason=str(problem))
        write_json(folder / RECORD, record.as_dict())
    log(f"  {key}: {record.status}{': ' + record.reason if record.reason else ''}")


if __name__ == "__main__":
    run_stage(main)
