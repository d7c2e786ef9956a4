"""Tokenize the sentences and compute the fp32 reference logits: artifacts/inputs."""

from __future__ import annotations

import _project  # noqa: F401

from bench.errors import run_stage
from bench.files import replacing_folder
from bench.inputs import encode, save_encoded
from bench.model import check_sequence_length, exportable, load_classifier
from bench.params import load_params
from bench.paths import CALIBRATION, EVALUATION, INPUTS, MODEL, SENTENCES
from bench.progress import say
from bench.reference import reference_logits
from bench.sentences import read_sentences


def main() -> None:
    params = load_params()
    from transformers import AutoTokenizer

    classifier = load_classifier(MODEL)
    check_sequence_length(classifier.config, params.sequence_length)
    tokenizer = AutoTokenizer.from_pretrained(MODEL, local_files_only=True)
    evaluation = encode(tokenizer, read_sentences(SENTENCES / "evaluation.csv"), params.sequence_length)
    calibration = encode(tokenizer, read_sentences(SENTENCES / "calibration.csv"), params.sequence_length)
    say(f"computing the fp32 reference of {len(evaluation)} sentences")
    logits = reference_logits(exportable(classifier), evaluation)
    with replacing_folder(INPUTS) as folder:
        save_encoded(folder / EVALUATION.name, evaluation, reference_logits=logits)
        save_encoded(folder / CALIBRATION.name, calibration)


if __name__ == "__main__":
    run_stage(main)
