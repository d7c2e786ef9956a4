"""Check params.yaml before DVC reads it:  python -m bench.runtimes.base.check_params

DVC fills dvc.yaml from params.yaml before any stage can run, and names a missing key less clearly.
"""

from bench.core.errors import run_stage
from bench.core.params import Params, load_params
from bench.runtimes.base.registry import check_variant


def check_params() -> Params:
    """Return the checked params.yaml, every variant's runtime asked too; ParameterError if something is not allowed."""
    params = load_params()
    for key, variant in params.all_variants().items():
        check_variant(key, variant)
    return params


if __name__ == "__main__":
    run_stage(check_params)
