"""Every kind of model that is supported goes through export, conversion and the CPU's runtimes with its own logits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import LENGTH, Made, MadeModels
from tiny_models import write_tiny_model

from bench.classifier.model import check_sequence_length, load_classifier, reference_logits
from bench.classifier.workload import Load, Workload, counted_flops
from bench.core.errors import ModelError, ParameterError
from bench.core.model_inputs import Batch, reference_spread
from bench.core.params import CONVERTED, Export, Variant
from bench.core.schemas import Labelled
from bench.graphs.convert import convert
from bench.graphs.export import export_checked, parity, with_reference
from bench.inputs.encoded import encode
from bench.runtimes import pytorch
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import SessionSpec, Unavailable
from bench.runtimes.tensorrt import with_int32_inputs
from bench.sources.model_files import SUPPORTED
from bench.summary.build import MATRIX_PRODUCT, matrix_share
from bench.timing.evidence import contradiction

PATHS = [
    ("pytorch", "fp32", "model", 1e-4),
    ("pytorch", "int8", "model", 1.5),
    ("onnxruntime", "fp32", "fp32.onnx", 1e-4),
    ("onnxruntime", "int8", "int8_dynamic.onnx", 1.5),
    ("onnxruntime", "int8", "int8_static.onnx", 1.5),
    ("onnxruntime", "int8", "int8_qdq.onnx", 1.5),
    ("onnxruntime", "fp16", "fp16.onnx", 0.05),
    ("onnxruntime", "fp16", "fp16_fused.onnx", 0.05),
    ("openvino", "fp32", "fp32.onnx", 1e-4),
    ("openvino", "int8", "int8_static.onnx", 1.5),
]
"""(runtime, precision, graph, largest relative error); ONNX Runtime's CPU runs all graphs, slowly but rightly."""
THROUGH_ALL = (
    "bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra", "albert", "mpnet", "squeezebert",
    "deberta-v2", "modernbert", "convbert", "mobilebert",
)  # fmt: skip
"""Kinds whose converted graphs are tested too; of the others the exported graph alone."""
LIKE_BERT = ("distilbert", "bert", "roberta")
FAST = ("distilbert", "bert")
"""Kinds that are tested without --slow too: RoBERTa's graphs are those of BERT."""


def slow_unless_fast(kinds: Iterable[str]) -> list[Any]:
    """Return the kinds as parameters of a test, those that are not in FAST marked as slow."""
    return [pytest.param(kind, marks=[] if kind in FAST else [pytest.mark.slow]) for kind in kinds]


@pytest.fixture(params=slow_unless_fast(THROUGH_ALL))
def through_all(request: pytest.FixtureRequest, made: MadeModels) -> Made:
    return made(request.param)


@pytest.fixture(params=slow_unless_fast(LIKE_BERT))
def like_bert(request: pytest.FixtureRequest, made: MadeModels) -> Made:
    return made(request.param)


def optimized_operators(graph: Path, length: int) -> list[str]:
    """Return the operators that ONNX Runtime runs for a session that is told its length."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.add_free_dimension_override_by_name("length", length)
    return operators_after_loading(graph, settings)


def operators_after_loading(graph: Path, settings: Any) -> list[str]:
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        settings.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        onnxruntime.InferenceSession(str(graph), settings, providers=["CPUExecutionProvider"])
        return sorted(node.op_type for node in onnx.load(settings.optimized_model_filepath).graph.node)


def error_of(made: Made, session: Any) -> float:
    """Return the largest error of a session's logits, in batches of several sizes, against plain transformers."""
    errors = []
    for size in (1, 3, 7):
        rows = np.arange(len(made.encoded))[-size:]
        logits = session.run(made.encoded.rows(rows))
        assert logits.dtype == np.float32
        errors.append(np.abs(logits - made.wanted[rows]).max())
    return float(np.max(errors) / reference_spread(made.wanted))


def error_of_int32(made: Made, graph: bytes) -> float:
    """Return the largest error of a graph whose inputs are INT32."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rows = made.encoded.rows(np.arange(3)).arrays
    names = [value.name for value in session.get_inputs()]
    given = {name: value.astype(np.int32) for name, value in zip(names, rows, strict=True)}
    logits = session.run(["logits"], given)[0]
    return float(np.abs(logits - made.wanted[:3]).max() / reference_spread(made.wanted))


LARGEST = {graph: tolerance for _, _, graph, tolerance in PATHS}
UNLIKE_INT8 = {("squeezebert", "model"), ("squeezebert", "int8_static.onnx"), ("squeezebert", "int8_qdq.onnx")}
"""Kinds whose products are convolutions, and what leaves these in float32: such rows are rejected for it."""


def test_every_runtime_gives_the_models_own_logits_and_proves_its_precision(through_all: Made) -> None:
    made = through_all
    for runtime, precision, graph, tolerance in PATHS:
        session = made.session(runtime, precision, graph)
        assert error_of(made, session) < tolerance, (runtime, graph)
        variant = Variant(runtime=runtime, device="cpu", precision=precision, graph="model")  # type: ignore[arg-type]
        found = contradiction(variant, session.evidence())
        if (made.kind, graph) in UNLIKE_INT8 and precision == "int8":
            assert "float" in found
        else:
            assert found == "", (runtime, graph)


def test_every_graph_is_what_onnx_asks_for_with_int32_inputs_too(through_all: Made) -> None:
    import onnx

    made = through_all
    for name in ("fp32", *CONVERTED):
        if name == "fp16_fused":  # has operators of ONNX Runtime's own
            continue
        onnx.checker.check_model(str(made.graph(f"{name}.onnx")))
    for name in ("fp32", "fp16", "int8_qdq"):
        assert error_of_int32(made, with_int32_inputs(made.graph(f"{name}.onnx"))) < LARGEST[f"{name}.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in SUPPORTED if kind not in THROUGH_ALL])
def test_every_other_kind_is_exported_with_its_own_logits(kind: str, made: MadeModels) -> None:
    found = made(kind)
    assert error_of(found, found.session("onnxruntime", "fp32", "fp32.onnx")) < 1e-3
    assert error_of(found, found.session("pytorch", "fp32", "model")) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2", "mpnet", "gpt2", "qwen2", "biogpt", "bart"])
def test_left_padding_keeps_the_logits(kind: str, made: MadeModels) -> None:
    found = made(kind, "left")
    assert (found.encoded.attention_mask[0] == np.sort(found.encoded.attention_mask[0])).all()
    assert error_of(found, found.session("onnxruntime", "fp32", "fp32.onnx")) < 1e-3


@pytest.mark.slow
def test_modernbert_with_mean_pooling_keeps_the_logits(made: MadeModels) -> None:
    found = made("modernbert", classifier_pooling="mean")
    assert error_of(found, found.session("onnxruntime", "fp32", "fp32.onnx")) < 1e-3


@pytest.mark.parametrize(
    ("runtime", "graph"), [("pytorch", "model"), ("onnxruntime", "fp32.onnx"), ("openvino", "fp32.onnx")]
)
def test_matrix_products_are_told_from_other_operators(runtime: str, graph: str, like_bert: Made) -> None:
    seen = like_bert.session(runtime, "fp32", graph).operator_ms([like_bert.encoded.rows(np.arange(3))] * 2)
    products = {name for name in seen if MATRIX_PRODUCT.search(name)}
    assert products
    assert set(seen) - products


def test_the_share_of_matrix_products_is_a_share_of_time() -> None:
    assert matrix_share({"MatMul": 2.0, "aten::addmm": 1.0, "Softmax": 1.0}) == 0.75
    assert matrix_share({"Softmax": 1.0}) == 0.0
    assert matrix_share({}) is None


def workload(made: Made) -> Workload:
    classifier = load_classifier(made.folder / "model")
    found = Workload.of(classifier.config, LENGTH, counted_flops(classifier, made.encoded.rows(np.arange(1))))
    assert found is not None
    return found


def test_operations_are_those_that_pytorch_counts(like_bert: Made) -> None:
    classifier = load_classifier(like_bert.folder / "model")
    load = Load(3, 3 * LENGTH, 3 * LENGTH**2)
    assert workload(like_bert).flops(load) == counted_flops(classifier, like_bert.encoded.rows(np.arange(3)))


def test_a_model_of_other_operations_has_no_known_limit_and_no_wrong_one(tmp_path: Path) -> None:
    for kind in ("gpt2", "bart", "albert"):
        classifier = write_tiny_model(kind, tmp_path / kind)
        ids = np.full((1, LENGTH), 3, dtype=np.int64)
        counted = counted_flops(classifier, Batch(ids, np.ones_like(ids)))
        assert Workload.of(classifier.config, LENGTH, counted) is None


def test_the_weights_that_move_are_all_but_the_embeddings(like_bert: Made) -> None:
    classifier = load_classifier(like_bert.folder / "model")
    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    weights = sum(
        parameter.numel()
        for name, parameter in classifier.named_parameters()
        if not any(table in name for table in tables)
    )
    found = workload(like_bert)
    tokens, width = 2 * LENGTH, found.width
    inputs_and_logits = 2 * tokens * 8 + 2 * found.labels * 4
    assert (
        found.bytes_moved(Load(2, tokens, 2 * LENGTH**2), "fp16")
        == (weights + (tokens + LENGTH) * width) * 2 + inputs_and_logits
    )


def test_fusion_reaches_all_attention(like_bert: Made) -> None:
    import onnx

    fused = onnx.load(str(like_bert.graph("fp16_fused.onnx")))
    assert sum(node.op_type == "Attention" for node in fused.graph.node) == 2


def test_attention_that_is_not_fused_is_said(made: MadeModels, capsys: pytest.CaptureFixture[str]) -> None:
    albert = made("albert")
    convert("fp16_fused", albert.graph("fp32.onnx"), albert.encoded.first(4))
    assert "fused 1 of 2 attentions" in capsys.readouterr().out


@pytest.mark.parametrize(
    "kind", [*slow_unless_fast(["bert", "distilbert", "electra", "mobilebert", "xlm-roberta"]), "albert"]
)
def test_a_graph_computes_no_shapes_that_a_gpu_would_leave_to_the_cpu(kind: str, made: MadeModels) -> None:
    operators = optimized_operators(made(kind).graph("fp32.onnx"), LENGTH)
    assert not set(operators) & {"Shape", "Expand", "Range", "ConstantOfShape"}


def test_onnx_runtime_fuses_gelu_when_it_loads_the_exported_graph(like_bert: Made) -> None:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    operators = operators_after_loading(like_bert.graph("fp32.onnx"), settings)
    assert "Erf" not in operators
    assert sum(name in ("Gelu", "BiasGelu") for name in operators) == 2


@pytest.mark.parametrize("kind", ["distilbert", "deberta-v2", "gpt2"])
def test_a_compiled_row_sees_each_batch_and_not_the_one_before(
    kind: str, made: MadeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the compiler itself, which not every machine has: what is tested are the fixed buffers and masks."""
    import torch

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    monkeypatch.setattr("bench.runtimes.base.torch_model.check_compiler", lambda: None)
    found = made(kind)
    session = found.session("pytorch", "fp32", "model", compile="default")
    for rows in (np.array([0]), np.array([4, 5, 6]), np.array([1]), np.array([7, 8, 9])):
        assert np.allclose(session.run(found.encoded.rows(rows)), found.wanted[rows], atol=1e-4)


def test_a_compiled_gpu_row_without_triton_is_skipped_and_does_not_end_the_run(
    like_bert: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    import torch

    pytorch.import_libraries()  # as a worker does first; transformers asks `find_spec` for PyTorch when it is imported
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    folder = like_bert.folder / "model"
    spec = SessionSpec("cuda", "fp16", folder, {"compile": "default"}, [1], LENGTH, cpu_threads=1)
    with pytest.raises(Unavailable, match="needs Triton"):
        import_runtime("pytorch").open_session(spec)


def test_masked_tokens_do_not_change_the_logits(like_bert: Made) -> None:
    session = like_bert.session("onnxruntime", "fp32", "fp32.onnx")
    row = int(like_bert.encoded.attention_mask.sum(axis=1).argmin())
    ids, mask = like_bert.encoded.rows(np.array([row])).arrays
    other = np.where(mask == 0, 7, ids)
    if like_bert.kind != "roberta":  # whose positions are counted by the padding token itself
        assert np.allclose(session.run(Batch(ids, mask)), session.run(Batch(other, mask)), atol=1e-5)
    assert not np.allclose(session.run(Batch(ids, np.ones_like(mask))), session.run(Batch(other, mask)), atol=1e-3)


def test_the_sequence_limit_counts_robertas_reserved_positions(tmp_path: Path) -> None:
    for kind, limit in (("bert", 64), ("roberta", 63)):
        config = write_tiny_model(kind, tmp_path / kind).config
        check_sequence_length(config, limit)
        with pytest.raises(ParameterError, match=f"allowed: 4 to {limit}"):
            check_sequence_length(config, limit + 1)


def test_a_wrong_graph_stops_the_export(like_bert: Made) -> None:
    classifier = load_classifier(like_bert.folder / "model")
    for name, parameter in classifier.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    pairs = with_reference(like_bert.encoded, reference_logits(classifier, like_bert.encoded))
    with pytest.raises(ModelError, match=r"differs from PyTorch by .*export.max_abs_diff"):
        parity(like_bert.graph("fp32.onnx"), like_bert.encoded.input_names, pairs, np.full(3, 1e-4))


def test_a_graph_that_answers_nan_stops_the_export(like_bert: Made, tmp_path: Path) -> None:
    """Python's running `max` would forget it: every comparison with NaN is false."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(like_bert.graph("fp32.onnx")))
    weight = next(weight for weight in model.graph.initializer if "classifier" in weight.name and len(weight.dims) == 1)
    weight.CopyFrom(numpy_helper.from_array(np.full(tuple(weight.dims), np.nan, np.float32), weight.name))
    onnx.save(model, str(tmp_path / "nan.onnx"))
    pairs = with_reference(like_bert.encoded, like_bert.wanted)
    with pytest.raises(ModelError, match="differs from PyTorch by inf"):
        parity(tmp_path / "nan.onnx", like_bert.encoded.input_names, pairs, np.full(3, 1e-4))


@pytest.mark.slow
def test_an_opset_that_a_model_cannot_be_had_in_names_the_way_out(made: MadeModels, tmp_path: Path) -> None:
    convbert = made("convbert")
    asked = Export(opset=17, max_abs_diff=1e-4)
    with pytest.raises(ModelError, match=r"export.opset: got 17: .* set export.opset to auto"):
        export_checked(
            load_classifier(convbert.graph("model")), convbert.encoded, convbert.wanted, asked, tmp_path / "x.onnx"
        )
    assert convbert.exported.opset == 18


def test_pairs_of_sentences_reach_the_model_with_their_token_types(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    classifier = write_tiny_model("bert", tmp_path / "model")
    rows = [Labelled("a fine film", None, "it is bad"), Labelled("dull", None, "a fine film to the end")] * 5
    settings = tmp_path / "model" / "tokenizer_config.json"
    names = ["input_ids", "token_type_ids", "attention_mask"]
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_input_names": names}))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    encoded = encode(tokenizer, rows, LENGTH)
    assert encoded.has_types
    reference = reference_logits(classifier, encoded)
    tokens = tokenizer("a fine film", "it is bad", padding="max_length", max_length=LENGTH, return_tensors="pt")
    with torch.inference_mode():
        assert np.allclose(reference[0], classifier(**tokens).logits.numpy()[0], atol=1e-5)
    made = Made("bert", tmp_path, encoded, reference)
    assert error_of(made, made.session("onnxruntime", "fp32", "fp32.onnx")) < 1e-3
    assert not np.allclose(reference, reference_logits(classifier, encoded.without_types()), atol=1e-3)
