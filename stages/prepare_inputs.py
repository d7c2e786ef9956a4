"""Tokenize the sentences and compute the fp32 reference logits: artifacts/inputs, metrics/lengths.json."""

import _project  # noqa: F401

from bench.classifier import model
from bench.core import paths
from bench.core.errors import run_stage
from bench.core.files import replacing_folder, write_json, write_text
from bench.core.params import load_params
from bench.core.pretrained import load_tokenizer
from bench.core.progress import log
from bench.core.schemas import read_sentences
from bench.inputs.encoded import draw, encode, length_figures, save_encoded, token_counts
from bench.inputs.texts import save_fast_tokenizer, save_texts


def main() -> None:
    params = load_params()
    classifier = model.load_classifier(paths.MODEL)
    model.check_sequence_length(classifier.config, params.sequence_length)
    tokenizer = load_tokenizer(paths.MODEL)
    labelled = [read_sentences(paths.SENTENCES / name) for name in paths.SENTENCE_FILES]
    encoded = [encode(tokenizer, rows, params.sequence_length) for rows in labelled]
    orders = [draw(each) for each in encoded]
    evaluation, calibration = (each.take(order) for each, order in zip(encoded, orders, strict=True))
    model.check_tokens(classifier, tokenizer, evaluation, calibration)
    log(f"computing the fp32 reference of {len(evaluation)} sentences")
    logits = model.reference_logits(classifier, evaluation)
    if not (evaluation.has_types or calibration.has_types or model.needs_types(classifier, evaluation, logits)):
        evaluation, calibration = evaluation.without_types(), calibration.without_types()
    with replacing_folder(paths.INPUTS) as folder:
        save_encoded(folder / paths.EVALUATION.name, evaluation, reference_logits=logits)
        save_encoded(folder / paths.CALIBRATION.name, calibration)
        write_text(folder / paths.TOKEN_COUNTS.name, token_counts(evaluation))
        save_texts(folder / paths.TEXTS.name, [labelled[0][index] for index in orders[0]])
        save_fast_tokenizer(folder / paths.FAST_TOKENIZER.name, tokenizer, folder / paths.TEXTS.name, evaluation)
    write_json(paths.LENGTHS, length_figures(evaluation))


if __name__ == "__main__":
    run_stage(main)
