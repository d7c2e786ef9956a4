"""A worker that measures, and then does what its row's name says."""

import os
import sys
import time

from bench.workers.protocol import do_job, keep_measured

NAME = os.environ["UNTIMED"]


def work() -> dict[str, str]:
    if NAME == "early":
        raise ImportError("No module named 'x'", name="x")
    time.sleep(0.6)
    keep_measured({"status": "measured"})
    time.sleep(60 if NAME == "hangs" else 0.6)
    if NAME == "dies":
        sys.stdout.write("no memory for the profile\n")
        sys.stdout.flush()
        os._exit(3)
    if NAME == "refuses":
        raise NotImplementedError("no such operator")
    return {"status": "measured", "accuracy": "1"}


do_job(lambda: None, work)
