"""Get the model and the sentences: artifacts/model, artifacts/sentences, metrics/model.json."""

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import replacing_folder, write_json
from bench.core.params import load_params
from bench.core.paths import MODEL, PROVENANCE, SENTENCES
from bench.sources.fetch import BUILTIN, fetch_model, fetch_sentences, fit_stand_in


def main() -> None:
    params = load_params()
    with replacing_folder(MODEL) as folder:
        provenance = fetch_model(params.model, folder)
    with replacing_folder(SENTENCES) as folder:
        dataset = params.dataset if provenance["model_is_real"] else params.dataset.without_labels()
        provenance |= fetch_sentences(dataset, MODEL, params.model.hub_timeout_seconds, folder)
    if not provenance["model_is_real"] and provenance["sentences"] != BUILTIN:
        with replacing_folder(MODEL) as folder:
            fit_stand_in(params.model, SENTENCES, folder)
    write_json(PROVENANCE, provenance | {"made_with": params.made_with("download")})


if __name__ == "__main__":
    run_stage(main)
