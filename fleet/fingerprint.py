"""Print which kind of machine this is, as one line of JSON:  python -m fleet.fingerprint

What `probe` finds of the hardware, its driver and system, without the libraries, which the commit pins.
"""

from __future__ import annotations

import json
import platform
from typing import Any

from bench.machine.environment import probe_cpu, probe_cuda

SOFTWARE = ("cuda", "cudnn", "pytorch_code")
"""What `probe` tells of a GPU that is PyTorch's."""


def main() -> None:
    print(json.dumps(fingerprint(), sort_keys=True))


def fingerprint() -> dict[str, Any]:
    """Return the machine's hardware, driver and system."""
    gpu = probe_cuda(0)
    return {
        "cpu": probe_cpu(),
        "cuda": gpu and {name: value for name, value in gpu.items() if name not in SOFTWARE},
        "os": f"{platform.system()} {platform.machine()}",
    }


if __name__ == "__main__":
    main()
