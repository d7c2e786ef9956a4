"""Tokenize the sentences and compute the fp32 reference logits: artifacts/inputs, metrics/lengths.json."""

import _project  # noqa: F401

from bench.classifier.model import (
    check_sequence_length,
    check_tokens,
    load_classifier,
    needs_types,
    reference_logits,
)
from bench.core.errors import run_stage
from bench.core.files import replacing_folder, write_json, write_text
from bench.core.params import load_params
from bench.core.paths import (
    CALIBRATION,
    EVALUATION,
    FAST_TOKENIZER,
    INPUTS,
    LENGTHS,
    MODEL,
    SENTENCE_FILES,
    SENTENCES,
    TEXTS,
    TOKEN_COUNTS,
)
from bench.core.pretrained import load_tokenizer
from bench.core.progress import log
from bench.core.schemas import read_sentences
from bench.inputs.encoded import draw, encode, length_figures, save_encoded, token_counts
from bench.inputs.texts import save_fast_tokenizer, save_texts


def main() -> None:
    params = load_params()
    classifier = load_classifier(MODEL)
    check_sequence_length(classifier.config, params.sequence_length)
    tokenizer = load_tokenizer(MODEL)
    labelled = [read_sentences(SENTENCES / name) for name in SENTENCE_FILES]
    encoded = [encode(tokenizer, rows, params.sequence_length) for rows in labelled]
    orders = [draw(each) for each in encoded]
    evaluation, calibration = (each.take(order) for each, order in zip(encoded, orders, strict=True))
    check_tokens(classifier, tokenizer, evaluation, calibration)
    log(f"computing the fp32 reference of {len(evaluation)} sentences")
    logits = reference_logits(classifier, evaluation)
    if not (evaluation.has_types or calibration.has_types or needs_types(classifier, evaluation, logits)):
        evaluation, calibration = evaluation.without_types(), calibration.without_types()
    with replacing_folder(INPUTS) as folder:
        save_encoded(folder / EVALUATION.name, evaluation, reference_logits=logits)
        save_encoded(folder / CALIBRATION.name, calibration)
        write_text(folder / TOKEN_COUNTS.name, token_counts(evaluation))
        save_texts(folder / TEXTS.name, [labelled[0][index] for index in orders[0]])
        save_fast_tokenizer(folder / FAST_TOKENIZER.name, tokenizer, folder / TEXTS.name, evaluation)
    write_json(LENGTHS, length_figures(evaluation))


if __name__ == "__main__":
    run_stage(main)
