"""FP8 without padding: its scales, what saturates, which layers it takes, and how a row proves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from made_models import LENGTH, Made, MadeModels
from test_lengths import attend, logits_of

from bench.core.model_inputs import reference_spread
from bench.core.params import Params, load_params
from bench.core.partners import partners
from bench.core.reports import Evidence, Profile
from bench.core.staleness import batches_of
from bench.inputs.batches import pad
from bench.inputs.encoded import save_encoded
from bench.machine.can_run import reason_to_skip
from bench.runtimes.base.session import SessionSpec, Unavailable
from bench.timing.evidence import contradiction, kernel_contradiction
from bench.timing.quality import compare, gate_verdict
from bench.workers.protocol import make_job

KEY = "torch_varlen_compile_cuda_fp8"
PARAMS = load_params(Path(__file__).parent.parent / "params.yaml")
ROW = PARAMS.variants[KEY]
ROUNDING = 2.0**-4
"""Largest relative error of a number with e4m3's three bits behind the point."""


def linear_of(inputs: int, outputs: int, bias: bool = True) -> Any:
    import torch

    torch.manual_seed(0)
    return torch.nn.Linear(inputs, outputs, bias, dtype=torch.float16)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_off_by_no_more_than_the_rounding_of_its_inputs_and_weights(bias: bool) -> None:
    import torch

    from bench.runtimes.base.fp8 import Fp8Linear

    linear = linear_of(64, 48, bias)
    hidden = torch.randn(1, 32, 64, generator=torch.Generator().manual_seed(1)).half()
    with torch.no_grad():
        found = Fp8Linear(linear, hidden.abs().max())(hidden)
        wanted = linear.float()(hidden.float())
        sizes = hidden.float().abs() @ linear.weight.abs().t()
    assert (found.shape, found.dtype) == (wanted.shape, torch.float16)
    error = (found.float() - wanted).abs()
    assert error.max() > 0
    assert (error <= sizes * ((1 + ROUNDING) ** 2 - 1) + 0.01).all()


def test_a_scale_maps_the_largest_value_to_the_largest_number_and_what_lies_beyond_saturates() -> None:
    import torch

    from bench.runtimes.base.fp8 import scale_of, to_fp8

    scale = scale_of(torch.tensor([1.0, -3.5]).half())
    assert float(scale) == 3.5 / 448
    found = to_fp8(torch.tensor([3.5, -3.5, 7.0, -60000.0, 0.0]).half(), scale)
    assert found.float().tolist() == [448, -448, 448, -448, 0]
    assert float(scale_of(torch.zeros(3))) == 1.0


def test_sizes_that_are_no_multiple_of_16_are_refused_by_name() -> None:
    import torch

    from bench.runtimes.base.fp8 import Fp8Linear

    with pytest.raises(Unavailable, match="multiples of 16, this model has a layer of 40 to 32"):
        Fp8Linear(linear_of(40, 32), torch.ones(()))


def test_a_pytorch_without_the_product_is_named(made: MadeModels, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delattr(torch, "_scaled_mm")
    with pytest.raises(Unavailable, match=r"has no torch\._scaled_mm for FP8"):
        quantized(made("distilbert"))


def quantized(model: Made, sentences: int = 4) -> Any:
    """Return the classifier for packed sentences in FP8, calibrated as a session is when it opens."""
    from bench.runtimes import pytorch_varlen
    from bench.runtimes.base.fp8 import quantize
    from bench.runtimes.base.packed import PackedClassifier, join_projections
    from bench.runtimes.base.torch_model import load_model

    pytorch_varlen.import_libraries()
    calibration = model.folder / "calibration.npz"
    save_encoded(calibration, model.encoded)
    spec = SessionSpec(
        "cpu", "fp8", model.graph("model"), {}, [1], LENGTH, 1, "none",
        calibration=calibration, calibration_sentences=sentences,
    )  # fmt: skip
    loaded = load_model(spec)
    join_projections(loaded)
    classifier = PackedClassifier(loaded, LENGTH, attend)
    quantize(classifier, pytorch_varlen.calibration_rows(classifier, spec))
    return classifier


@pytest.mark.parametrize("kind", ["distilbert", "bert", "roberta"])
def test_the_layers_of_the_encoder_are_fp8_and_the_head_is_not(kind: str, made: MadeModels) -> None:
    from bench.runtimes.base.fp8 import Fp8Linear
    from bench.runtimes.base.torch_model import shown_by

    model = made(kind)
    classifier = quantized(model)
    layers = [name for name, module in classifier.model.named_modules() if isinstance(module, Fp8Linear)]
    assert len(layers) == 2 * 4  # projections, output, and two of the feed-forward part
    assert not any("classifier" in name or "pooler" in name for name in layers)
    evidence = Evidence(**shown_by(classifier.model))
    assert contradiction(ROW.model_copy(update={"device": "cpu"}), evidence) == ""
    fp16 = ROW.model_copy(update={"device": "cpu", "precision": "fp16"})
    assert "requested fp16, observed float8_e4m3fn" in contradiction(fp16, evidence)
    logits = logits_of(classifier, *pad(model.encoded, np.arange(len(model.encoded)), "none").arrays[:2])
    error = np.abs(logits - model.wanted).max() / reference_spread(model.wanted)
    assert 1e-3 < error < 0.6


def test_scales_are_those_of_the_calibration_sentences(made: MadeModels) -> None:
    few, all_of_them = (dict(quantized(made("distilbert"), sentences).model.named_buffers()) for sentences in (1, 1000))
    scales = [name for name in few if name.endswith("input_scale")]
    assert len(scales) == 8
    assert all(few[name] <= all_of_them[name] for name in scales)
    assert any(few[name] < all_of_them[name] for name in scales)
    assert all(few[name] == all_of_them[name] for name in few if name.endswith("weight_scale"))


def test_it_compiles_as_one_graph_for_any_number_of_tokens(made: MadeModels) -> None:
    import torch

    classifier = quantized(made("bert"))
    classifier._attend = attend_to_all
    compiled = torch.compile(classifier.logits, dynamic=True, fullgraph=True, backend="aot_eager")
    with torch.inference_mode():
        for tokens in (64, 128, 320):
            ids = torch.arange(tokens, dtype=torch.int32)[None] % 50
            row = (
                ids,
                ids % LENGTH,
                torch.zeros_like(ids),
                torch.tensor([0, tokens]).int(),
                torch.tensor([0, 3]).int(),
            )
            assert torch.equal(compiled(*row), classifier.logits(*row))


def attend_to_all(query: Any, key: Any, value: Any, *_more: Any) -> Any:
    """Attention that a compiler can trace without a GPU: over the whole row."""
    import torch

    parts = (each.transpose(0, 1) for each in (query, key, value))
    return torch.nn.functional.scaled_dot_product_attention(*parts).transpose(0, 1)


@pytest.mark.parametrize(
    ("capability", "reason"), [("8.6", "FP8 needs compute capability 8.9"), ("8.9", ""), ("9.0", "")]
)
def test_rows_are_skipped_on_a_gpu_before_ada(capability: str, reason: str) -> None:
    environment = {"cuda": {"compute_capability": capability}, "runtimes": {"pytorch_varlen": {"torch": "2.13"}}}
    assert reason_to_skip(ROW, environment).startswith(reason)
    assert bool(reason_to_skip(ROW, environment)) == bool(reason)


FP8_GEMM, HALF_GEMM = (
    "nvjet_sm90_qqhsh_128x128_128x4_2x1_v_bz_coopA_bias_TNT",
    "nvjet_sm90_hsh_128x128_64x4_2x1_v_bz_TNT",
)
ATTENTION = (
    "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, false, false, cutlass::half_t>>"
)


@pytest.mark.parametrize(
    ("kernels", "found"),
    [
        ({FP8_GEMM: 1.0, HALF_GEMM: 0.1, ATTENTION: 9.0}, ""),
        ({"sm89_xmma_gemm_e4m3f16_e4m3f32_f32_tn_n_tilesize128x128x64_stage3_warpsize2x2x1": 1.0}, ""),
        ({HALF_GEMM: 1.0, ATTENTION: 1.0}, "requested fp8, observed fp16 in 100% of the time"),
        ({HALF_GEMM: 1.0, FP8_GEMM: 0.2}, "requested fp8, observed fp16 in 83% of the time"),
    ],
)
def test_kernels_show_whether_the_products_ran_in_fp8(kernels: dict[str, float], found: str) -> None:
    profile = Profile(kernel_launches=1, gpu_busy_ms=1, kernels=kernels)
    assert kernel_contradiction(ROW, profile).startswith(found)
    assert bool(kernel_contradiction(ROW, profile)) == bool(found)


def test_fp8_kernels_contradict_an_fp16_row() -> None:
    profile = Profile(kernel_launches=1, gpu_busy_ms=1, kernels={FP8_GEMM: 1.0, HALF_GEMM: 0.2})
    row = PARAMS.variants["torch_varlen_compile_cuda_fp16"]
    assert kernel_contradiction(row, profile).startswith("requested fp16, observed fp8 in 83%")


def test_the_gate_takes_fp8s_error_and_rejects_other_logits() -> None:
    wanted = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=wanted.shape).astype(np.float32)
    gate = PARAMS.quality["fp8"]
    assert gate_verdict([compare([(np.arange(200), wanted + 0.05 * noise)], wanted)], gate)[1] == ""
    assert gate_verdict([compare([(np.arange(200), wanted + noise)], wanted)], gate)[1]


def test_it_is_compared_with_fp16_and_served_beside_it() -> None:
    assert ("torch_varlen_compile_cuda_fp16", KEY) in partners(PARAMS.variants)
    assert KEY in PARAMS.serving.variants


def test_its_calibration_makes_it_alone_stale() -> None:
    before, after = (
        {key: batches_of(row, calibrated_by(sentences)) for key, row in PARAMS.variants.items()}
        for sentences in (256, 64)
    )
    assert [key for key in before if before[key] != after[key]] == [KEY]


def test_its_worker_is_told_where_the_sentences_lie() -> None:
    on_the_cpu = ROW.model_copy(update={"device": "cpu"})  # there may be no GPU here to name
    job = make_job(KEY, on_the_cpu, calibrated_by(64))
    assert (job.calibration, job.calibration_sentences) == (Path("artifacts/inputs/calibration.npz"), 64)


def calibrated_by(sentences: int) -> Params:
    int8 = PARAMS.int8.model_copy(update={"calibration_sentences": sentences})
    return PARAMS.model_copy(update={"int8": int8})


@pytest.mark.slow
def test_its_stage_is_stale_with_its_toggle_and_its_calibration(measured_copy: Project) -> None:
    stage = f"infer@{KEY}"
    measured_copy.set_params(lambda params: params["variants"].update({KEY: ROW.model_dump(exclude_defaults=True)}))
    measured_copy.dvc("repro", stage)
    assert stage not in measured_copy.stale()
    with measured_copy.mended("params.yaml"):
        measured_copy.set_params(lambda params: params["precisions"].update(fp8=False))
        assert {name for name in measured_copy.stale() if name.startswith("infer")} == {stage}
    with measured_copy.mended("params.yaml"):
        measured_copy.set_params(lambda params: params["int8"].update(calibration_sentences=5))
        stale = measured_copy.stale()
    assert stage in stale
    assert "infer@torch_cpu_fp32" not in stale
    assert measured_copy.cells(KEY)[1]["status"] in ("skipped", "measured", "rejected")
