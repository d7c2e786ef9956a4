"""Get the model and the sentences: artifacts/model, artifacts/sentences, metrics/model.json."""

from __future__ import annotations

import _project  # noqa: F401

from bench.errors import run_stage
from bench.fetch import fetch_model, fetch_sentences
from bench.files import replacing_folder, write_json
from bench.params import load_params
from bench.paths import MODEL, PROVENANCE, SENTENCES
from bench.progress import say


def main() -> None:
    params = load_params()
    with replacing_folder(MODEL) as folder:
        provenance = fetch_model(params.model, folder, say)
    with replacing_folder(SENTENCES) as folder:
        timeout_seconds = params.model.hub_timeout_seconds
        provenance |= fetch_sentences(params.dataset, timeout_seconds, folder, say)
    write_json(PROVENANCE, provenance)


if __name__ == "__main__":
    run_stage(main)
