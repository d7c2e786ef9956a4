"""Padding as an axis: what is computed, that no sentence disturbs another, and what a change makes stale."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from made_models import LENGTH, Made, MadeModels
from test_assumptions import cells, claimed, counted, verdict_on
from test_models import error_of, optimized_operators
from test_report import results, row, table

from bench.core.errors import DataError
from bench.core.model_inputs import PackedBatch
from bench.findings.timed import disturbances
from bench.graphs.export import export_graph, exportable
from bench.inputs.batches import make_batches, pad
from bench.inputs.encoded import EPOCH_SENTENCES, Encoded, draw, length_figures, load_encoded, token_counts
from bench.report.notes import claim
from bench.report.shown import read_context
from bench.report.words import remark
from bench.runtimes.base.packed import PackedClassifier, join_projections
from bench.runtimes.base.session import SessionSpec, Unavailable
from bench.runtimes.pytorch_varlen import HostRow, bucket_of, sizes_of, split
from bench.timing.measure import block_calls


def encoded(*lengths: int, limit: int = 16, is_left: bool = False, has_types: bool = False) -> Encoded:
    """Return sentences of these lengths; sentence n has the tokens 100 n + 1, 100 n + 2, …"""
    ids = np.zeros((len(lengths), limit), dtype=np.int64)
    mask = np.zeros_like(ids)
    for number, length in enumerate(lengths):
        place = slice(-length, None) if is_left else slice(length)
        ids[number, place] = 100 * number + np.arange(1, length + 1)
        mask[number, place] = 1
    return Encoded(ids, mask, np.zeros(len(lengths), dtype=np.int64), ids % 2 if has_types else None)


def test_fixed_padding_goes_to_the_sequence_length() -> None:
    ids, mask = pad(encoded(3, 5), np.array([0, 1]), "fixed").arrays
    assert ids.shape == mask.shape == (2, 16)


@pytest.mark.parametrize(("multiple_of", "length"), [(1, 5), (4, 8), (8, 8), (32, 16)])
def test_padding_to_the_longest_is_rounded_up_and_never_goes_beyond_the_limit(multiple_of: int, length: int) -> None:
    ids, mask = pad(encoded(3, 5, 9), np.array([0, 1]), "longest", multiple_of).arrays
    assert ids.shape == mask.shape == (2, length)
    assert mask.sum(axis=1).tolist() == [3, 5]
    assert ids.flags.c_contiguous


def test_left_padding_is_cut_on_the_left() -> None:
    ids, mask = pad(encoded(3, 5, is_left=True), np.array([0, 1]), "longest").arrays
    assert ids.tolist() == [[0, 0, 1, 2, 3], [101, 102, 103, 104, 105]]
    assert mask.tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("is_left", [False, True])
def test_without_padding_every_token_is_there_once_in_its_order(is_left: bool) -> None:
    ids, lengths, types = pad(encoded(3, 1, 2, is_left=is_left, has_types=True), np.array([2, 0, 0]), "none").arrays
    assert ids.tolist() == [201, 202, 1, 2, 3, 1, 2, 3]
    assert lengths.tolist() == [2, 3, 3]
    assert types.tolist() == [each % 2 for each in ids]


def test_every_padding_gets_the_same_sentences_in_the_same_order() -> None:
    data = encoded(*(2 + number % 11 for number in range(300)))
    epochs = [make_batches(data, 8, padding, 4) for padding in ("fixed", "longest", "none")]
    for sets in zip(*epochs, strict=True):
        for batches in zip(*sets, strict=True):
            assert len({batch.indices.tobytes() for batch in batches}) == 1
    used = np.concatenate([batch.indices for batch in chain(*epochs[0])])
    assert sorted(used) == list(range(EPOCH_SENTENCES))


@pytest.mark.parametrize(
    ("size", "sets", "batches"), [(1, 16, 8), (4, 8, 4), (8, 8, 2), (16, 4, 2), (64, 1, 2), (256, 1, 2)]
)
def test_a_set_is_what_a_pass_runs(size: int, sets: int, batches: int) -> None:
    found = make_batches(encoded(*[3] * 200), size)
    assert (len(found), {len(each) for each in found}) == (sets, {batches})
    assert {len(batch.inputs) for batch in chain(*found)} == {size}


def test_a_batch_larger_than_the_data_repeats_sentences() -> None:
    [[first, second]] = make_batches(encoded(3, 3, 3), 7)
    assert sorted([*first.indices, *second.indices]) == sorted(np.arange(14) % 3)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_sets_hold_long_and_short_sentences_alike(size: int) -> None:
    lengths = np.random.default_rng(size).integers(1, 61, 300)
    sets = make_batches(encoded(*lengths, limit=60), size)
    means = [np.mean([lengths[batch.indices].max() for batch in batches]) for batches in sets]
    drawn = np.random.default_rng(0).permutation(lengths[:EPOCH_SENTENCES]).reshape(len(sets), -1, size)
    by_chance = drawn.max(axis=2).mean(axis=1)
    assert np.std(means) < np.std(by_chance) / 2


def test_rows_whose_work_differs_run_every_batch_of_a_set() -> None:
    batches = make_batches(encoded(*[3] * 128, limit=4), 4)[0]
    assert block_calls(1.0, len(batches), are_alike=False) % len(batches) == 0
    assert block_calls(100.0, len(batches), are_alike=False) == len(batches)


def test_the_lengths_of_the_data_are_told() -> None:
    found = length_figures(encoded(4, 4, 8, 16))
    assert (found["mean_tokens"], found["median_tokens"], found["longest_tokens"]) == (8.0, 6.0, 16)
    assert (found["at_limit"], found["padding_share"]) == (1, 0.5)
    assert token_counts(encoded(4, 4, 8)) == "tokens,sentences\n4,2\n8,1\n"


RANDOM = np.random.default_rng(0)
FILES = {
    "sorted by length": np.repeat(np.arange(1, 61), 10),
    "longest first": np.repeat(np.arange(60, 0, -1), 10),
    "short and long by turns": np.tile([2, 60], 300),
    "long ones at the end": np.repeat([5, 60], [500, 100]),
    "a long tail, sorted": np.sort(np.minimum(60, RANDOM.pareto(1.5, 600) * 5 + 5)).astype(int),
    "many": np.sort(RANDOM.integers(1, 61, 20_000)),
}


@pytest.mark.parametrize("name", FILES)
def test_the_order_of_a_file_decides_no_length(name: str) -> None:
    lengths = FILES[name]
    given = encoded(*lengths, limit=60)
    order = given.take(draw(given))
    assert sorted(order.lengths) == sorted(lengths)
    assert order.lengths[:EPOCH_SENTENCES].mean() == pytest.approx(lengths.mean(), rel=0.03)
    longest = [order.lengths[batch.indices].max() for batch in chain(*make_batches(order, 8))]
    by_chance = [RANDOM.choice(lengths, 8).max() for _ in range(2000)]
    assert np.mean(longest) == pytest.approx(np.mean(by_chance), rel=0.12)
    assert (given.take(draw(given)).input_ids == order.input_ids).all()


def test_a_file_sorted_by_label_shows_every_class() -> None:
    data = replace(encoded(*[5] * 600), labels=np.repeat([0, 1, 2], 200))
    order = data.take(draw(data))
    assert np.bincount(order.labels[:EPOCH_SENTENCES]).min() > 25
    assert [row.labels.tolist() for row in (order.first(1), order.take(np.array([0])))] == [[order.labels[0]]] * 2


def test_a_sorted_file_is_drawn_from_by_prepare_inputs(project: Project) -> None:
    path = project.folder.parent / "sorted.csv"
    texts = [f"{'word ' * (1 + number // 20)}{number}" for number in range(600)]
    pd.DataFrame({"sentence": texts, "label": [number // 300 for number in range(600)]}).to_csv(path, index=False)
    project.set_params(lambda params: params["dataset"].update(source="auto", path=str(path)))
    for stage in ("download", "prepare_inputs"):
        project.script(f"stages/{stage}.py")
    found = json.loads(project.read("metrics/lengths.json"))
    assert found["drawn_sentences"] == EPOCH_SENTENCES
    assert found["drawn_mean_tokens"] == pytest.approx(found["mean_tokens"], rel=0.03)
    batches = [*chain(*make_batches(load_encoded(project.folder / "artifacts/inputs/evaluation.npz"), 8))]
    assert {len(batch.inputs) for batch in batches} == {8}
    assert len(np.unique(np.concatenate([batch.indices for batch in batches]))) == EPOCH_SENTENCES
    calibration = load_encoded(project.folder / "artifacts/inputs/calibration.npz")
    assert calibration.first(64).lengths.mean() == pytest.approx(calibration.lengths.mean(), rel=0.1)


@pytest.mark.parametrize(("given", "remarks"), [(20.0, 0), (20.9, 0), (19.1, 0), (21.1, 1), (10.0, 1)])
def test_lengths_unlike_those_of_the_data_are_remarked(given: float, remarks: int) -> None:
    [cell] = table(row("a_cpu", 1, (9.0,), tokens_given=given, tokens_of_data=20.0)).itertuples()
    found = [each for each in disturbances([cell]) if each.kind == "lengths"]
    assert [each.value for each in found] == [given / 20] * remarks
    assert all("% of the data's mean length" in remark(each) for each in found)


def test_a_bucket_is_a_few_steps_above_what_it_holds() -> None:
    assert bucket_of(1, 5) == (1, 64)
    assert bucket_of(2, 64) == (4, 64)
    assert bucket_of(17, 65) == (64, 128)
    assert bucket_of(256, 2049) == (256, 2304)
    assert bucket_of(300, 7000) == (512, 7168)
    for tokens in range(1, 9000, 97):
        assert tokens <= bucket_of(1, tokens)[1] < tokens + 256


def test_unused_tokens_become_sentences_that_are_not_too_long() -> None:
    assert split(0, 128) == []
    assert split(255, 128) == [128, 127]
    assert split(63, 128) == [63]


@pytest.mark.parametrize("lengths", [(10, 20, 30, 4), (64,), (1,), (10, 20), (16, 16, 16, 16)])
def test_a_row_holds_every_sentence_once_and_no_place_lies_beyond_it(lengths: tuple[int, ...]) -> None:
    bucket = bucket_of(len(lengths), sum(lengths))
    row_of = HostRow(np.zeros(sum(sizes_of(bucket, 40)), dtype=np.int32), bucket, 40, 2)
    for used in ((39,), lengths):  # what an earlier batch left behind must be gone
        ids = np.arange(1, sum(used) + 1)
        row_of.fill(PackedBatch(ids, np.array(used), ids % 2))
    assert row_of.ids.tolist() == [*range(1, sum(lengths) + 1), *[0] * (bucket[1] - sum(lengths))]
    assert row_of.first[: len(lengths)].tolist() == [0, *np.cumsum(lengths)[:-1]]
    assert row_of.first.max() < bucket[1]
    assert row_of.starts[-1] == bucket[1]
    parts = np.diff(row_of.starts)
    assert parts[: len(lengths)].tolist() == list(lengths)
    assert parts.min() >= 0
    assert parts[len(lengths) :].max() <= 40
    assert row_of.positions[: sum(lengths)].tolist() == [2 + place for length in lengths for place in range(length)]


def attend(query: Any, key: Any, value: Any, starts: Any, *_more: Any) -> Any:
    """Attention within each sentence, as PyTorch's `varlen_attn` computes it on a GPU."""
    import torch

    made = torch.empty_like(query)
    for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        parts = (each[begin:end].transpose(0, 1) for each in (query, key, value))
        made[begin:end] = torch.nn.functional.scaled_dot_product_attention(*parts).transpose(0, 1)
    return made


def packed_classifier(made: Made) -> PackedClassifier:
    from bench.runtimes.base.torch_model import load_model

    model = load_model(SessionSpec("cpu", "fp32", made.graph("model"), {}, [1], LENGTH, 1))
    assert join_projections(model) > 0
    return PackedClassifier(model, LENGTH, attend)


def logits_of(found: PackedClassifier, ids: Any, lengths: Any) -> Any:
    import torch

    ends = lengths.cumsum()
    positions = np.concatenate([np.arange(length) for length in lengths]) + found.offset
    starts = np.concatenate([[0], ends])
    row_of = (torch.tensor(each, dtype=torch.int32)[None] for each in (ids, positions, np.zeros_like(ids)))
    places = (torch.tensor(each, dtype=torch.int32) for each in (starts, starts[:-1]))
    with torch.inference_mode():
        return found.logits(*row_of, *places).numpy()


@pytest.mark.parametrize("kind", ["distilbert", "bert", "roberta", "electra"])
def test_packed_sentences_have_the_models_own_logits_and_do_not_see_each_other(kind: str, made: MadeModels) -> None:
    model = made(kind)
    found = packed_classifier(model)
    ids, lengths = pad(model.encoded, np.arange(len(model.encoded)), "none").arrays
    logits = logits_of(found, ids, lengths)
    assert np.abs(logits - model.wanted).max() < 1e-4
    changed = ids.copy()
    second = slice(int(lengths[0]), int(lengths[:2].sum()))
    changed[second] = changed[second][::-1]
    others = logits_of(found, changed, lengths)
    assert np.abs(others[1] - logits[1]).max() > 1e-3
    assert np.array_equal(np.delete(others, 1, axis=0), np.delete(logits, 1, axis=0))


@pytest.mark.parametrize("kind", ["deberta-v2", "gpt2", "mpnet", "convbert", "bart"])
def test_a_model_that_takes_no_packed_sentences_is_skipped_and_says_why(kind: str, made: MadeModels) -> None:
    from bench.runtimes.base.torch_model import load_model

    model = load_model(SessionSpec("cpu", "fp32", made(kind).graph("model"), {}, [1], LENGTH, 1))
    join_projections(model)
    with pytest.raises(Unavailable, match=f"this {kind} model"):
        PackedClassifier(model, LENGTH, attend)


def test_one_graph_serves_every_length_and_a_fixed_row_computes_no_shape(made: MadeModels, tmp_path: Path) -> None:
    bert = made("bert")
    assert bert.exported.takes_any_length
    longest = bert.session("onnxruntime", "fp32", "fp32.onnx", padding="longest")
    for number in range(len(bert.encoded)):
        inputs = pad(bert.encoded, np.array([number]), "longest")
        assert np.abs(longest.run(inputs) - bert.wanted[number]).max() < 1e-4
        assert longest.computed(inputs).tokens == bert.encoded.lengths[number]
    one_length = operators_of_one_length(bert, tmp_path / "one_length.onnx")
    assert optimized_operators(bert.graph("fp32.onnx"), LENGTH) == one_length


def operators_of_one_length(made: Made, path: Path) -> list[str]:
    """Return the operators of a graph that was exported for one length alone."""
    from bench.classifier.model import load_classifier
    from bench.graphs.onnx_files import save_graph

    classifier = load_classifier(made.graph("model"))
    classifier.set_attn_implementation(made.exported.form.attention)
    graph = export_graph(
        exportable(classifier, made.exported.form), made.encoded, made.exported.opset, takes_any_length=False
    )
    save_graph(graph, path)
    return optimized_operators(path, LENGTH)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["deberta-v2", "modernbert", "albert", "roberta"])
def test_kinds_of_other_attention_keep_their_logits_at_every_length(kind: str, made: MadeModels) -> None:
    model = made(kind)
    session = model.session("onnxruntime", "fp32", "fp32.onnx", padding="longest")
    assert model.exported.takes_any_length
    rows = np.arange(3)
    assert np.abs(session.run(pad(model.encoded, rows, "longest", 8)) - model.wanted[rows]).max() < 1e-3
    assert error_of(model, session) < 1e-3


def test_damaged_lengths_are_named(measured_copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(measured_copy.folder)
    path = measured_copy.folder / "metrics/lengths.json"
    path.write_text(path.read_text().replace('"longest_tokens"', '"longest"'), encoding="utf-8")
    with pytest.raises(DataError, match=r"metrics/lengths.json .*longest_tokens"):
        read_context()


def padded(fixed_ms: float, none_ms: tuple[float, float]) -> pd.DataFrame:
    """Return a GPU's rows at batch 1 and 4: fixed length, and without padding."""
    return table(
        *cells("ort_cuda_fp16", fixed_ms, fixed_ms, padding="fixed"),
        *cells("torch_varlen_cuda_fp16", *none_ms, padding="none"),
    )


CLAIM = "Without padding is always fastest"


def test_where_a_row_without_padding_wins_comes_of_the_data() -> None:
    assert counted(verdict_on(padded(1.0, (1.2, 0.4)), CLAIM)) == ("refuted", 1, 2)
    assert counted(verdict_on(padded(1.0, (0.5, 0.4)), CLAIM)) == ("upheld", 1, 2)
    assert counted(verdict_on(padded(1.0, (1.5, 1.4)), CLAIM)) == ("refuted", 2, 2)
    found = verdict_on(padded(1.0, (1.2, 0.4)), CLAIM)
    lost, won = found.shown
    assert (lost.first, lost.second, lost.first_batch, lost.verdict) == (
        *("torch_varlen_cuda_fp16", "ort_cuda_fp16"),
        *(1, "slower"),
    )
    assert won.comparison.value == pytest.approx(2.5, rel=1e-3)
    assert "is refuted on the GPU, faster in 1 of 2 comparisons" in claim(found)


def test_without_padding_is_judged_against_the_fastest_padded_row() -> None:
    assert counted(verdict_on(padded(1.0, (0.5, 0.4)), CLAIM)) == ("upheld", 1, 2)
    assert counted(verdict_on(padded(1.0, (1.2, 0.4)), CLAIM)) == ("refuted", 1, 2)
    fixed = table(*cells("ort_cuda_fp16", 1.0, 1.0))
    assert not [each for each in claimed(fixed) if each.kind == "padding"]


def test_passes_that_were_cut_short_are_found() -> None:
    cut = row("ort_cpu_fp32_longest", 1, (9.0, 9.1), padding="longest", cut_short="cut short by Ctrl-C")
    [found] = disturbances(list(table(cut).itertuples()))
    assert (found.kind, found.value) == ("cut short", "cut short by Ctrl-C")
    assert not list(disturbances(list(table(cut | {"cut_short": None}).itertuples())))


def test_a_kept_run_of_fixed_length_alone_is_still_read() -> None:
    text = results(row("ort_cpu_fp32", 1, (9.0, 9.1, 9.2)))
    assert "| 1 | `ort_cpu_fp32` | 9.1" in text
    assert "Lengths:" not in text
