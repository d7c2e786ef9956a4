"""The arithmetic is read from the kernels' names, and a row whose kernels say otherwise is caught.

The names are those that an H100 gave (PyTorch 2.11, CUDA 13.0, ONNX Runtime 1.31.1).
"""

from __future__ import annotations

from typing import Any

import pytest

from bench.core.params import Variant
from bench.core.reports import Evidence, Profile
from bench.machine.can_run import reason_to_skip
from bench.proof.kernels import arithmetic_of, arithmetic_shares
from bench.timing.evidence import contradiction, kernel_contradiction, proof_mark
from bench.timing.monitors import covered

SGEMM = "void sgemm_largek_lds64<true, false, 5, 5, 4, 4, 4, 34>(float*, float const*, float const*, int, int)"
FFMA = "sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize128x32x8_stage3_warpsize2x2x1_ffma_execute_kernel__5x_cublas"
SIMT = "void cutlass::Kernel2<cutlass_80_simt_sgemm_64x64_8x5_tn_align1>(cutlass_80_simt_sgemm_64x64_8x5_tn_align1)"
TF32 = "sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize64x64x32_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x"
TF32_CUTLASS = "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_64x64_32x6_tn_align4>(Params)"
HALF = "nvjet_sm90_hsh_24x64_64x16_4x2_h_bz_bias_TNN"
HALF_CUTLASS = "void cutlass::Kernel2<cutlass_80_wmma_tensorop_f16_s161616gemm_f16_32x32_128x2_tn_align2>(Params)"
HALF_ATTENTION = "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x64_4x1x1_cga1x1x1_kernel0_0"
FLOAT_ATTENTION = "fmha_cutlassF_f32_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<float>)"
NORM = "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float, false>(int, float)"


@pytest.mark.parametrize(
    ("kernel", "arithmetic"),
    [
        (SGEMM, "fp32"),
        (FFMA, "fp32"),
        (SIMT, "fp32"),
        (FLOAT_ATTENTION, "fp32"),
        (TF32, "tf32"),
        (TF32_CUTLASS, "tf32"),
        (HALF, "fp16"),
        (HALF_CUTLASS, "fp16"),
        (HALF_ATTENTION, "fp16"),
        ("sm80_xmma_gemm_i8i8_i8i32_f32_tn_n_tilesize128x128x64", "int8"),
        ("sm90_xmma_gemm_i8f32_i8i32_f32_tn_n_tilesize64x128x128_cgasize4x2x1", "int8"),
        ("sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize256x64x8_stage3_warpsize2x2x1_ffma_aligna4_alignc4", "fp32"),
        ("ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_32x6_tn", "bf16"),
        (NORM, ""),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float, __half, __half>", ""),
    ],
)
def test_the_arithmetic_of_a_matrix_product_is_read_from_its_kernel(kernel: str, arithmetic: str) -> None:
    assert arithmetic_of(kernel) == arithmetic


def variant(precision: Any, runtime: str = "onnxruntime", device: Any = "cuda") -> Variant:
    return Variant(runtime=runtime, device=device, precision=precision, graph="onnx/fp32.onnx")


def profile(**kernels: float) -> Profile:
    names = {"sgemm": SGEMM, "tf32": TF32, "half": HALF, "attention": FLOAT_ATTENTION, "norm": NORM}
    return Profile(kernel_launches=1, gpu_busy_ms=1, kernels={names[name]: ms for name, ms in kernels.items()})


@pytest.mark.parametrize(
    ("precision", "kernels", "observed"),
    [
        ("fp32", {"tf32": 0.28, "attention": 0.1}, "requested fp32, observed tf32 in 74% of the time"),
        ("fp32", {"sgemm": 0.9, "tf32": 0.1}, "requested fp32, observed tf32 in 10% of the time"),
        ("fp16", {"sgemm": 1.0, "norm": 3.0}, "requested fp16, observed fp32 in 100% of the time"),
        ("tf32", {"sgemm": 0.9, "attention": 0.1}, "requested tf32, observed fp32 in 100% of the time"),
        ("int8", {"half": 0.9}, "requested int8, observed fp16 in 100% of the time"),
        ("fp16", {}, "wanted cuda, observed no kernel on the GPU"),
    ],
)
def test_a_row_whose_kernels_contradict_its_label_is_rejected(
    precision: str, kernels: dict[str, float], observed: str
) -> None:
    assert kernel_contradiction(variant(precision), profile(**kernels)).startswith(observed)


@pytest.mark.parametrize(
    ("precision", "kernels"),
    [
        ("fp32", {"sgemm": 0.9, "attention": 0.1}),
        ("tf32", {"tf32": 0.7, "attention": 0.3}),
        ("fp16", {"half": 0.4, "norm": 0.1}),
        ("fp16", {"norm": 0.1}),
    ],
)
def test_a_row_whose_kernels_agree_or_cannot_be_read_is_not_rejected(precision: str, kernels: dict[str, float]) -> None:
    assert kernel_contradiction(variant(precision), profile(**kernels)) == ""


def test_cpu_rows_are_not_judged_by_gpu_kernels() -> None:
    assert kernel_contradiction(variant("fp32", device="cpu"), profile()) == ""


@pytest.mark.parametrize(
    ("operators", "fault"), [({"Shape": 2, "Gather": 1}, ""), ({"Shape": 1, "MatMul": 3}, "3 MatMul")]
)
def test_only_nodes_that_compute_shapes_may_run_on_the_cpu_beside_a_cuda_row(
    operators: dict[str, int], fault: str
) -> None:
    evidence = Evidence(providers=["CUDAExecutionProvider"], operators_elsewhere=operators)
    found = contradiction(variant("fp16"), evidence)
    assert found == (
        f"wanted every node but those that compute shapes on CUDAExecutionProvider, observed elsewhere: {fault}"
        if fault
        else ""
    )


def test_the_mark_shows_which_proofs_a_row_lacks() -> None:
    evidence = Evidence(providers=["CUDAExecutionProvider"], product_weights={"float16": 10})
    assert proof_mark(variant("fp16"), evidence, profile(half=1.0)) == "DWK"
    assert proof_mark(variant("fp16"), evidence, None) == "DW-"
    assert proof_mark(variant("fp16"), Evidence(), profile(norm=1.0)) == "---"
    assert proof_mark(variant("fp16", device="cpu"), evidence, None) == "DW"


def test_shares_are_of_the_time_in_matrix_products_alone() -> None:
    assert arithmetic_shares({HALF: 3.0, SGEMM: 1.0, NORM: 96.0}) == {"fp16": 0.75, "fp32": 0.25}
    assert arithmetic_shares({NORM: 1.0}) == {}


def test_gpu_time_in_which_two_kernels_overlap_counts_once() -> None:
    assert covered([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.75)]) == 4.0
    assert covered([]) == 0.0


def test_tf32_rows_are_skipped_on_a_gpu_without_tf32() -> None:
    environment = {"cuda": {"compute_capability": "7.5"}, "runtimes": {"onnxruntime": {"onnxruntime": "1.31.1"}}}
    assert reason_to_skip(variant("tf32"), environment) == "TF32 needs compute capability 8.0, this GPU has 7.5"
    assert reason_to_skip(variant("bf16"), environment) == "BF16 needs compute capability 8.0, this GPU has 7.5"
    assert reason_to_skip(variant("fp16"), environment) == ""
