"""Bad input gets one clear message with file, key, value and what is allowed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Project, tiny_params

from bench.core.errors import ParameterError
from bench.core.params import DEFAULT_BASELINES, DEFAULT_SERVED, Params, load_params

Change = Callable[[dict[str, Any]], Any]
CPU = "torch_cpu_fp32"

FAULTS: dict[str, tuple[Change, str]] = {
    "unknown key": (
        lambda p: p.update(batchsize=4),
        "batchsize: unknown key, allowed: model, dataset, sequence_length",
    ),
    "unknown nested key": (
        lambda p: p["timing"].update(runs=4),
        "timing.runs: unknown key, allowed: minutes, target_interval,",
    ),
    "unknown key of a gate for random weights": (
        lambda p: p["quality"]["int8"].update(synthetic={"max_relative_error": 1.0, "min_agreement": 0.5, "loss": 1}),
        "quality.int8.synthetic.loss: unknown key, allowed: max_relative_error, min_agreement",
    ),
    "unknown key of a variant that is named like a type": (
        lambda p: p["variants"].update(int8_mine={**p["variants"][CPU], "runs": 3}),
        "variants.int8_mine.runs: unknown key, allowed: runtime, device,",
    ),
    "an option of no type that a runtime takes": (
        lambda p: p["variants"][CPU].update(options={"compile": 1.5}),
        f"variants.{CPU}.options.compile: got 1.5, allowed: a text, true, false, a whole number",
    ),
    "batch size 0": (
        lambda p: p.update(batch_sizes=[1, 0]),
        "batch_sizes[1]: got 0, allowed: greater than or equal to 1",
    ),
    "batch size twice": (
        lambda p: p.update(batch_sizes=[4, 4]),
        "batch_sizes: got [4, 4], allowed: each batch size once",
    ),
    "a device without batch sizes": (
        lambda p: p.update(batch_sizes={"cpu": [1]}),
        "batch_sizes.cuda: missing, allowed: an entry for each device of the variants",
    ),
    "a batch size twice on one device": (
        lambda p: p.update(batch_sizes={"cpu": [1], "cuda": [4, 4]}),
        "batch_sizes.cuda: got [4, 4], allowed: each batch size once",
    ),
    "a batch size of 0 on one device": (
        lambda p: p.update(batch_sizes={"cpu": [1, 0], "cuda": [4]}),
        "batch_sizes.cpu[1]: got 0, allowed: greater than or equal to 1",
    ),
    "an unknown device": (
        lambda p: p.update(batch_sizes={"cpu": [1], "gpu": [4]}),
        "batch_sizes.gpu: got 'gpu', allowed: 'cpu' or 'cuda'",
    ),
    "an unknown padding": (
        lambda p: p["variants"]["ort_cpu_fp32"].update(padding="shortest"),
        "variants.ort_cpu_fp32.padding: got 'shortest', allowed: 'fixed', 'longest' or 'none'",
    ),
    "a baseline that pads to the longest": (
        lambda p: p["variants"]["ort_cpu_fp32"].update(padding="longest"),
        "baselines.cpu: got 'ort_cpu_fp32', allowed: torch_cpu_fp32",
    ),
    "lengths rounded up to nothing": (
        lambda p: p["lengths"].update(multiple_of=0),
        "lengths.multiple_of: got 0, allowed: greater than or equal to 1",
    ),
    "no batch size": (lambda p: p.update(batch_sizes=[]), "batch_sizes: got []"),
    "text for a number": (
        lambda p: p["timing"].update(warmup_runs="three"),
        "timing.warmup_runs: got 'three', allowed: a valid integer",
    ),
    "number as text": (lambda p: p.update(sequence_length="16"), "sequence_length: got '16', allowed: a valid integer"),
    "missing key": (lambda p: p["timing"].pop("minutes"), "timing.minutes: missing"),
    "a precision of a variant without a gate": (
        lambda p: p["quality"].pop("int8"),
        "quality.int8: missing, allowed: an entry for each precision of the variants",
    ),
    "nothing under a key": (
        lambda p: p.update(tensorrt_variants=None),
        "tensorrt_variants: got null, allowed: a mapping, {} for an empty one",
    ),
    "a value that is neither of two kinds": (
        lambda p: p["export"].update(opset=16),
        "export.opset: got 16, allowed: 'auto' or greater than or equal to 17",
    ),
    "an unknown precision": (lambda p: p["precisions"].update(fp64=True), "precisions.fp64: got 'fp64', allowed: "),
    "a served row that is not there and no default": (
        lambda p: p["serving"]["variants"].append("ort_cpu_fp23"),
        "serving.variants: got 'ort_cpu_fp23', allowed: torch_cpu_fp32, ort_cpu_fp32",
    ),
    "another input": (
        lambda p: p["serving"].update(input="words"),
        "serving.input: got 'words', allowed: 'tokens' or 'text'",
    ),
    "fewer threads than none": (
        lambda p: p["serving"].update(tokenizer_threads=-1),
        "serving.tokenizer_threads: got -1, allowed: greater than or equal to 0",
    ),
    "infinite time": (lambda p: p["timing"].update(minutes=float("inf")), "timing.minutes: got inf, allowed: "),
    "a negative time": (
        lambda p: p["timing"].update(minutes=-1),
        "timing.minutes: got -1, allowed: greater than or equal to 0",
    ),
    "an interval without a width": (
        lambda p: p["timing"].update(target_interval=0),
        "timing.target_interval: got 0, allowed: greater than 0",
    ),
    "an interval wider than what it is of": (
        lambda p: p["timing"].update(target_interval=5),
        "timing.target_interval: got 5, allowed: less than 1",
    ),
    "a number that no machine can meet": (
        lambda p: p["timing"].update(warmup_runs=10**12),
        "timing.warmup_runs: got 1000000000000, allowed: less than or equal to 1000000",
    ),
    "a time of months": (
        lambda p: p["timing"].update(worker_limit_seconds=1e9),
        "timing.worker_limit_seconds: got 1000000000.0, allowed: less than or equal to 86400",
    ),
    "unknown runtime": (
        lambda p: p["variants"][CPU].update(runtime="tvm"),
        f"variants.{CPU}.runtime: got 'tvm', allowed: onnxruntime, openvino, pytorch",
    ),
    "TensorRT among variants": (
        lambda p: p["variants"][CPU].update(runtime="tensorrt"),
        f"variants.{CPU}.runtime: got 'tensorrt', allowed: onnxruntime, openvino, pytorch",
    ),
    "key with a dash": (
        lambda p: p["variants"].update({"torch-cpu": p["variants"][CPU]}),
        "variants.torch-cpu: got a key with other characters, allowed: a-z, 0-9 and _",
    ),
    "key in both sections": (
        lambda p: p["tensorrt_variants"].update({CPU: p["tensorrt_variants"]["ort_tensorrt_fp16"]}),
        f"tensorrt_variants.{CPU}: got a key that variants has too",
    ),
    "baseline not configured": (
        lambda p: p["baselines"].update(cpu="torch_cpu_fp64"),
        "baselines.cpu: got 'torch_cpu_fp64', allowed: torch_cpu_fp32, ort_cpu_fp32",
    ),
    "heads do not divide dim": (
        lambda p: p["model"]["synthetic"].update(heads=5),
        "model.synthetic.heads: got 5, allowed: a divisor of dim (32)",
    ),
    "graph outside artifacts": (
        lambda p: p["variants"][CPU].update(graph="../secret"),
        f"variants.{CPU}.graph: got '../secret', allowed: model, or onnx/NAME.onnx",
    ),
    "unknown device": (
        lambda p: p["variants"][CPU].update(device="tpu"),
        f"variants.{CPU}.device: got 'tpu', allowed: 'cpu' or 'cuda'",
    ),
}


def loaded(folder: Path, *changes: Change) -> Params:
    """Return the project's own params.yaml with changes, as it is read."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for change in changes:
        change(params)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return load_params(folder / "params.yaml")


def without_gpu(params: dict[str, Any]) -> None:
    """Remove the GPU's variants."""
    rows = params["variants"]
    params["variants"] = {key: row for key, row in rows.items() if row["device"] == "cpu"}
    params["tensorrt_variants"] = {}


def no_cuda(params: dict[str, Any]) -> None:
    """Remove what is said for the GPU."""
    by_device = (params["serving"][name] for name in ("p99_ms", "max_batch", "in_flight"))
    for section in (params["batch_sizes"], *by_device):
        section.pop("cuda")


ONE_KNOB: dict[str, Change] = {
    "fewer batch sizes": lambda p: p["batch_sizes"].update(cuda=[1, 4, 8, 16]),
    "one batch size for both": lambda p: p.update(batch_sizes=[1]),
    "a smaller budget of batches": lambda p: p["serving"]["max_batch"].update(cpu=3),
    "no GPU's variants": without_gpu,
    "no CPU's variants": lambda p: p.update(
        variants={key: row for key, row in p["variants"].items() if row["device"] == "cuda"}
    ),
    "no TensorRT": lambda p: p.update(tensorrt_variants={}),
    "no baseline": lambda p: p["variants"].pop("torch_cuda_fp32"),
    "a whole number of minutes": lambda p: p["timing"].update(minutes=3),
    "one pass": lambda p: p["timing"].update(minutes=0),
    "a wider interval": lambda p: p["timing"].update(target_interval=0.2),
    "no precision named": lambda p: p.pop("precisions"),
    "no gate of what no row has": lambda p: [change(p) for change in (without_gpu, lambda p: p["quality"].pop("tf32"))],
    "nothing served": lambda p: p["serving"].update(variants=[]),
    "one device in all that has an entry a device": lambda p: [change(p) for change in (without_gpu, no_cuda)],
    "another width of the stand-in": lambda p: p["model"]["synthetic"].update(dim=512),
}


@pytest.mark.parametrize("name", ONE_KNOB)
def test_one_turned_knob_needs_no_other(name: str, tmp_path: Path) -> None:
    loaded(tmp_path, ONE_KNOB[name])


def test_the_defaults_are_those_of_the_projects_own_file() -> None:
    written = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert tuple(written["serving"]["variants"]) == DEFAULT_SERVED
    assert written["baselines"] == DEFAULT_BASELINES


def test_batches_under_load_follow_the_batch_sizes_that_there_are(tmp_path: Path) -> None:
    params = loaded(tmp_path, ONE_KNOB["fewer batch sizes"])
    assert (params.max_batch("cuda"), params.max_batch("cpu")) == (16, 8)
    assert params.remarks == ("serving.max_batch.cuda: 16 in place of 256, the largest of batch_sizes there",)
    params = loaded(tmp_path, lambda p: p["batch_sizes"].update(cpu=[32, 16]))
    assert params.max_batch("cpu") == 16
    assert params.remarks == ("serving.max_batch.cpu: 16 in place of 8, the smallest of batch_sizes there",)


def test_defaults_that_are_not_there_are_left_out_with_a_remark(tmp_path: Path) -> None:
    params = loaded(tmp_path, without_gpu)
    assert params.baselines == {"cpu": "torch_cpu_fp32"}
    assert params.not_served == tuple(key for key in DEFAULT_SERVED if "cpu" not in key)
    assert set(params.serving.variants) | set(params.not_served) == set(DEFAULT_SERVED)
    [remark] = params.remarks
    assert remark.startswith("serving.variants: without torch_cuda_fp32, ")


@pytest.mark.parametrize(
    "key", ["processes", "max_processes", "more_rounds_seconds", "min_runs", "min_seconds", "max_seconds"]
)
def test_a_key_of_timing_in_rounds_is_refused_with_its_successor(key: str, tmp_path: Path) -> None:
    told = f"timing.{key}: unknown key of an older version (timing.minutes says how long a device is timed), allowed: "
    with pytest.raises(ParameterError, match=re.escape(told)):
        loaded(tmp_path, lambda p: p["timing"].update({key: 3}))


def test_a_default_follows_what_was_written(tmp_path: Path) -> None:
    params = loaded(tmp_path, ONE_KNOB["another width of the stand-in"])
    assert params.model.synthetic.fitting_heads == 8
    assert params.remarks == ("model.synthetic.heads: 8 in place of 12, which does not divide dim (512)",)


def test_a_precision_that_is_not_named_is_on(tmp_path: Path) -> None:
    params = loaded(tmp_path, lambda p: p.update(precisions={"int8": False}))
    assert params.is_on("fp16")
    assert not params.is_on("int8")


def test_a_key_of_an_older_version_is_refused_with_its_successor(project: Project) -> None:
    row = {"runtime": "tensorrt", "device": "cuda", "precision": "int8", "graph": "onnx/fp32.onnx"}
    project.set_params(lambda p: p["tensorrt_variants"].update(old={**row, "options": {"int8_by": "table"}}))
    told = project.script("bench/runtimes/base/check_params.py", code=1).stderr
    assert "tensorrt_variants.old.options.int8_by: unknown key of an older version (graph: onnx/int8_qdq.onnx" in told


@pytest.mark.parametrize(("section", "key"), [("timing", "processes"), ("serving", "processes"), ("serving", "points")])
def test_a_gone_key_names_what_says_it_now(section: str, key: str, tmp_path: Path) -> None:
    with pytest.raises(
        ParameterError, match=rf"{section}\.{key}: unknown key of an older version \({section}\.minutes "
    ):
        loaded(tmp_path, lambda p: p[section].update({key: 3}))


def test_a_row_that_is_left_out_makes_nothing_stale_and_is_in_no_table(measured_copy: Project) -> None:
    measured_copy.set_params(lambda p: p["serving"].update(variants=["torch_cuda_fp32", *p["serving"]["variants"]]))
    told = measured_copy.script("stages/probe.py").stdout
    assert "params.yaml: serving.variants: without torch_cuda_fp32 (no such variant)" in told
    before = {path: path.read_bytes() for path in (measured_copy.folder / "artifacts/served").glob("*.json")}
    measured_copy.script("stages/serve.py", "torch_cuda_fp32")
    measured_copy.script("stages/summarize.py")
    measured_copy.script("stages/render.py")
    assert [row["variant"] for row in measured_copy.rows("results/serving.csv")] == ["ort_cpu_fp32"]
    assert "Parameters: serving.variants: without torch_cuda_fp32" in measured_copy.read("results/summary_table.md")
    assert "removed" not in measured_copy.script("stages/probe.py").stdout
    assert before.items() <= {path: path.read_bytes() for path in before}.items()


ROWS = ("ort_cpu_fp32", "torch_cpu_fp32", "ort_cpu_int8")


@pytest.mark.parametrize("names", [("123", "7", "1000"), ("true", "false", "null")])
def test_a_variant_may_be_called_like_a_number_or_a_truth(names: tuple[str, ...], measured_copy: Project) -> None:
    called = dict(zip(names, ROWS, strict=True))

    def rename(params: dict[str, Any]) -> None:
        rows = params["variants"]
        params.update(variants={name: rows[row] for name, row in called.items()}, tensorrt_variants={})
        params["baselines"], params["serving"]["variants"] = {"cpu": names[1]}, [names[0]]

    measured_copy.set_params(rename)
    for name, row in called.items():
        for path in (measured_copy.folder / "artifacts/samples").glob(f"{row}.*"):
            path.rename(path.with_name(f"{name}{path.suffix}"))
    served = measured_copy.folder / "artifacts/served"
    (served / "ort_cpu_fp32.json").rename(served / f"{names[0]}.json")
    for stage in ("probe", "summarize", "render", "check_rows"):
        measured_copy.script(f"stages/{stage}.py")
    assert {row["variant"] for row in measured_copy.rows()} == set(names)
    assert f"| 1 | `{names[0]}` |" in measured_copy.read("results/summary_table.md")
    measured_copy.dvc("status", f"infer@{names[1]}", f"serve@{names[0]}")


def test_a_key_that_yaml_reads_as_a_number_is_refused(tmp_path: Path) -> None:
    params = tiny_params()
    params["variants"][123] = params["variants"].pop("ort_cpu_int8")
    assert "put it in quotes" in refusal(tmp_path, params)


def test_a_folder_without_git_is_told_before_dvc_starts(project: Project) -> None:
    shutil.rmtree(project.folder / ".git")
    told = project.script("bench/runtimes/base/check_params.py", code=1).stderr
    assert "is in no git repository (a ZIP?), which DVC needs: `git init`, `git add -A`, `git commit" in told
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "-qm", "S"],
    ):
        project.run("git", *command)
    project.script("bench/runtimes/base/check_params.py")


def test_what_git_refuses_is_said_and_no_reason_to_stop(project: Project) -> None:
    (project.folder / ".git/HEAD").unlink()
    told = project.script("bench/runtimes/base/check_params.py").stdout
    assert "NOTE: git does not take this folder (fatal: " in told
    assert f"safe.directory {project.folder.as_posix()}`" in told


def test_a_user_without_a_home_folder_is_told_to_set_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_cls: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(homeless))
    told = project.script("bench/runtimes/base/check_params.py", code=1).stderr
    assert "this user has no home folder, as in containers without a passwd entry: set HOME" in told


def refusal(folder: Path, content: dict[str, Any] | str) -> str:
    """Return why a params.yaml is refused."""
    text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError) as caught:
        load_params(folder / "params.yaml")
    return str(caught.value)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_params_is_named_with_key_value_and_what_is_allowed(name: str, tmp_path: Path) -> None:
    change, message = FAULTS[name]
    params = tiny_params()
    change(params)
    assert f"params.yaml: {message}" in refusal(tmp_path, params)


def test_every_fault_of_a_file_is_reported_at_once(tmp_path: Path) -> None:
    params = tiny_params()
    params["batch_sizes"] = [0]
    params["timing"]["processes"] = "x"
    told = refusal(tmp_path, params)
    assert "batch_sizes[0]" in told
    assert "timing.processes" in told


def test_the_projects_own_params_are_valid() -> None:
    params = load_params(Path(__file__).parent.parent / "params.yaml")
    assert params.sizes("cpu") == [1, 4, 8, 16]
    assert params.sizes("cuda") == [1, 4, 8, 16, 32, 64, 128, 256]


RUNTIME_FAULTS: list[tuple[Change, str]] = [
    (
        lambda p: p["variants"].update(torch_cuda_int8={**p["variants"][CPU], "device": "cuda", "precision": "int8"}),
        "params.yaml: variants.torch_cuda_int8.precision: got 'int8' on cuda for pytorch, allowed: bf16 on cpu, ",
    ),
    (
        lambda p: p["variants"][CPU].update(options={"compile": "fastest"}),
        "variants.torch_cpu_fp32.options.compile: got 'fastest', allowed: default, reduce-overhead",
    ),
]


@pytest.mark.parametrize(("change", "message"), RUNTIME_FAULTS)
def test_what_a_runtime_does_not_offer_is_refused_before_any_work(
    change: Change, message: str, project: Project
) -> None:
    project.set_params(change)
    assert message in project.script("stages/probe.py", code=1).stderr


def test_a_bad_value_stops_dvc_at_probe_and_keeps_the_last_results(measured_copy: Project) -> None:
    measured_copy.set_params(lambda params: params.update(batch_sizes=[0]))
    before = measured_copy.read("metrics/variants/ort_cpu_fp32.json"), measured_copy.read("metrics/env.json")
    ended = measured_copy.dvc("repro", code=None)
    assert ended.returncode != 0
    assert "params.yaml: batch_sizes[0]: got 0" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (measured_copy.read("metrics/variants/ort_cpu_fp32.json"), measured_copy.read("metrics/env.json")) == before


def test_a_missing_params_file_is_named_before_dvc_starts(project: Project) -> None:
    (project.folder / "params.yaml").unlink()
    ended = project.script("bench/runtimes/base/check_params.py", code=1)
    assert ended.stderr.startswith("error: params.yaml is missing")


def test_a_sequence_longer_than_the_models_limit_is_refused(project: Project) -> None:
    project.set_params(lambda params: params.update(sequence_length=513))
    project.script("stages/download.py")
    ended = project.script("stages/prepare_inputs.py", code=1)
    assert "params.yaml: sequence_length: got 513, allowed: 4 to 512 tokens" in ended.stderr


def test_a_damaged_environment_file_is_named_with_the_mend(measured_copy: Project) -> None:
    (measured_copy.folder / "metrics/env.json").write_text("{", encoding="utf-8")
    ended = measured_copy.script("stages/render.py", code=1)
    assert "metrics/env.json is damaged" in ended.stderr
    assert "`dvc repro probe` writes it anew" in ended.stderr
    assert not measured_copy.stale()


def test_a_damaged_onnx_file_fails_its_row_with_the_mend(measured_copy: Project) -> None:
    graph = measured_copy.folder / "artifacts/onnx/fp32.onnx"
    graph.chmod(0o644)
    graph.write_bytes(b"not a graph")
    told = measured_copy.python("stages/infer.py", "ort_cpu_fp32").stdout
    assert "failed: ort_cpu_fp32: artifacts/onnx/fp32.onnx is damaged or missing" in told


def test_an_unknown_variant_is_refused_with_the_choice(measured: Project) -> None:
    ended = measured.python("stages/infer.py", "ort_cpu_fp64", code=1)
    assert "no variant 'ort_cpu_fp64', allowed: torch_cpu_fp32, ort_cpu_fp32" in ended.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch_sizes: [1]\nbatch_sizes: [4]\n", 'line 2, column 1: found duplicate key "batch_sizes"'),
        ("batch_sizes: [1\n", "params.yaml is not valid YAML: line "),
        ("\t", "params.yaml is not valid YAML: line 1"),
        ("[" * 5000, "params.yaml is not valid YAML"),
        ("- 1\n", "params.yaml is empty or not a mapping"),
        ("", "params.yaml is empty or not a mapping"),
    ],
)
def test_what_dvc_would_not_read_is_refused_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    told = refusal(tmp_path, text)
    assert message in told
    assert len(told) < 400


def test_words_that_old_yaml_took_for_true_are_what_dvc_takes_them_for(tmp_path: Path) -> None:
    params = yaml.safe_dump(tiny_params(), sort_keys=False).replace("int8: true", "int8: on", 1)
    assert "precisions.int8: got 'on', allowed: a valid boolean" in refusal(tmp_path, params)


def test_a_message_never_repeats_more_than_a_little_of_a_value(tmp_path: Path) -> None:
    params = tiny_params()
    params["timing"]["processes"] = "x" * 100_000
    assert len(refusal(tmp_path, params)) < 1_000
