"""Any encoder for sequence classification goes through export, conversion and every CPU runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tiny_params

from bench.classifier.model import check_sequence_length, exportable, load_classifier
from bench.classifier.reference import reference_logits
from bench.classifier.workload import Workload
from bench.core.params import Params
from bench.graphs.convert import RECIPES, convert
from bench.graphs.export import export_graph, parity
from bench.graphs.onnx_files import save_graph
from bench.inputs.encoded import Encoded, encode
from bench.proof.operators import matrix_share
from bench.proof.quality import reference_spread
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import SessionSpec, Unavailable
from bench.sources.builtin import builtin_sentences
from bench.sources.synthetic import write_synthetic_model

LENGTH = 32
PATHS = [
    ("pytorch", "fp32", "model", 1e-4),
    ("pytorch", "int8", "model", 1.5),
    ("onnxruntime", "fp32", "fp32.onnx", 1e-4),
    ("onnxruntime", "int8", "int8_dynamic.onnx", 1.5),
    ("onnxruntime", "int8", "int8_qdq.onnx", 1.5),
    ("onnxruntime", "fp16", "fp16.onnx", 0.03),
    ("onnxruntime", "fp16", "fp16_fused.onnx", 0.03),
]
"""(runtime, precision, graph, largest relative error); ONNX Runtime's CPU runs all graphs, slowly but rightly."""


@dataclass
class Made:
    folder: Path
    encoded: Encoded
    reference: Any
    parity: float


@pytest.fixture(scope="module", params=["distilbert", "bert", "roberta"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp(request.param)
    model_folder = folder / "model"
    model_folder.mkdir()
    params = tiny_params()
    params["model"]["synthetic"]["architecture"] = request.param
    evaluation, calibration = builtin_sentences()
    settings = Params.model_validate(params).model.synthetic
    write_synthetic_model(settings, [text for text, _ in evaluation], model_folder)
    classifier = load_classifier(model_folder)
    model = exportable(classifier)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    encoded = encode(tokenizer, evaluation[:40], LENGTH)
    graph = folder / "fp32.onnx"
    save_graph(export_graph(model, encoded, 17), graph)
    largest = parity(model, graph, encoded, 1e-4)
    for recipe in RECIPES:
        converted = convert(recipe, graph, model_folder, encode(tokenizer, calibration[:4], LENGTH))
        save_graph(converted, folder / f"{recipe}.onnx")
    return Made(folder, encoded, reference_logits(model, encoded), largest)


@pytest.mark.parametrize(("runtime", "precision", "graph", "tolerance"), PATHS)
def test_a_runtime_gives_the_logits_of_the_fp32_reference(
    made: Made, runtime: str, precision: str, graph: str, tolerance: float
) -> None:
    session = import_runtime(runtime).open_session(
        SessionSpec("cpu", precision, made.folder / graph, {}, [1, 3], LENGTH, cpu_threads=1)
    )
    for size in (1, 3, 7):
        rows = np.arange(size)
        logits = session.run(*made.encoded.rows(rows))
        assert logits.dtype == np.float32
        error = np.abs(logits - made.reference[rows]).max() / reference_spread(made.reference)
        assert error < tolerance


@pytest.mark.parametrize(("runtime", "precision", "graph", "tolerance"), PATHS[:4])
def test_the_share_of_matrix_products_is_seen_in_every_cpu_runtime(
    made: Made, runtime: str, precision: str, graph: str, tolerance: float
) -> None:
    del tolerance
    session = import_runtime(runtime).open_session(
        SessionSpec("cpu", precision, made.folder / graph, {}, [3], LENGTH, cpu_threads=1)
    )
    operators = session.operator_ms([made.encoded.rows(np.arange(3))] * 2)
    assert 0.05 < (matrix_share(operators) or 0) < 1


def test_operations_are_those_that_pytorch_counts(made: Made) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    classifier = load_classifier(made.folder / "model")
    classifier.set_attn_implementation("eager")
    ids, mask = (torch.from_numpy(array) for array in made.encoded.rows(np.arange(3)))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        classifier(input_ids=ids, attention_mask=mask)
    assert Workload.of(classifier.config, LENGTH).operations(3) == counter.get_total_flops()


def test_the_weights_that_move_are_all_but_the_embeddings(made: Made) -> None:
    classifier = load_classifier(made.folder / "model")
    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    weights = sum(
        parameter.numel()
        for name, parameter in classifier.named_parameters()
        if not any(table in name for table in tables)
    )
    workload = Workload.of(classifier.config, LENGTH)
    tokens, width = 2 * LENGTH, workload.width
    inputs_and_logits = 2 * tokens * 8 + 2 * workload.labels * 4
    assert workload.bytes_moved(2, "fp16") == (weights + (tokens + LENGTH) * width) * 2 + inputs_and_logits


def test_fusion_reaches_attention_in_every_architecture(made: Made) -> None:
    import onnx

    fused = onnx.load(str(made.folder / "fp16_fused.onnx"))
    assert sum(node.op_type == "Attention" for node in fused.graph.node) == 2


def test_onnx_runtime_fuses_gelu_when_it_loads_the_exported_graph(made: Made) -> None:
    import onnx
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.optimized_model_filepath = str(made.folder / "optimized.onnx")
    onnxruntime.InferenceSession(str(made.folder / "fp32.onnx"), settings, providers=["CPUExecutionProvider"])
    operators = [node.op_type for node in onnx.load(settings.optimized_model_filepath).graph.node]
    assert "Erf" not in operators
    assert sum(name in ("Gelu", "BiasGelu") for name in operators) == 2


def test_a_compiled_row_sees_each_batch_and_not_the_one_before(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiler itself left out, which not every machine has: what is tested are the fixed buffers."""
    import torch

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    spec = SessionSpec("cpu", "fp32", made.folder / "model", {"compile": "default"}, [1, 3], LENGTH, cpu_threads=1)
    session = import_runtime("pytorch").open_session(spec)
    for rows in (np.array([0]), np.array([4, 5, 6]), np.array([1]), np.array([7, 8, 9])):
        assert np.allclose(session.run(*made.encoded.rows(rows)), made.reference[rows], atol=1e-4)


def test_a_compiled_gpu_row_without_triton_is_skipped_and_does_not_end_the_run(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    spec = SessionSpec("cuda", "fp16", made.folder / "model", {"compile": "default"}, [1], LENGTH, cpu_threads=1)
    with pytest.raises(Unavailable, match="needs Triton"):
        import_runtime("pytorch").open_session(spec)


def test_the_exported_graph_agrees_with_pytorch_at_a_batch_it_was_not_exported_with(made: Made) -> None:
    assert 0 <= made.parity < 1e-4


def test_masked_tokens_do_not_change_the_logits(made: Made) -> None:
    session = import_runtime("onnxruntime").open_session(
        SessionSpec("cpu", "fp32", made.folder / "fp32.onnx", {}, [1], LENGTH, cpu_threads=1)
    )
    row = int(made.encoded.attention_mask.sum(axis=1).argmin())
    ids, mask = made.encoded.rows(np.array([row]))
    other = np.where(mask == 0, 7, ids)
    if (mask == 0).any() and "roberta" not in str(made.folder):
        assert np.allclose(session.run(ids, mask), session.run(other, mask), atol=1e-5)
    assert not np.allclose(session.run(ids, np.ones_like(mask)), session.run(other, mask), atol=1e-3)


def test_the_sequence_limit_counts_robertas_reserved_positions(made: Made) -> None:
    from bench.core.errors import ParameterError

    config = load_classifier(made.folder / "model").config
    check_sequence_length(config, 512)
    with pytest.raises(ParameterError, match="allowed: 4 to 512"):
        check_sequence_length(config, 513)


def test_a_wrong_graph_stops_the_export(made: Made) -> None:
    from bench.core.errors import BenchError

    classifier = load_classifier(made.folder / "model")
    for name, parameter in classifier.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    model = exportable(classifier)
    with pytest.raises(BenchError, match=r"differs from PyTorch by .*export.max_abs_diff"):
        parity(model, made.folder / "fp32.onnx", made.encoded, 1e-4)
