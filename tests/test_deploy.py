"""A deployed folder: what is in it, what its server answers over HTTP, and what it does with every fault."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, STAND_INS, Project, shared_project

from bench.core.errors import WorkerError
from bench.core.files import file_sha256
from bench.core.model_inputs import Task
from bench.deploy.build import SERVER
from bench.deploy.code import closure, requirements
from bench.deploy.running import running
from bench.deploy.server import set_variables
from bench.deploy.settings import Settings
from bench.runtimes.base.registry import import_runtime

pytest.importorskip("uvicorn", reason="`python run.py test` installs bench/deploy/requirements.lock")

TEXTS = ["a film to love , warm and funny .", "bad", "", " ".join(["long"] * 60), "ünïcödé — “quoted” 🎬"]
LIMIT_SECONDS = 120
SLOW_SESSION = (
    "logits: Logits = self._session.run(",
    "__import__('time').sleep(0.2)\n        logits: Logits = self._session.run(",
)
"""A change of the deployed runtime: what is replaced, and by what."""
STEERED_SESSION = (
    "logits: Logits = self._session.run(",
    "from pathlib import Path\n        while Path('holds').exists():\n            __import__('time').sleep(0.01)\n"
    "        if Path('dies').exists():\n            raise RuntimeError('the device is gone')\n"
    "        logits: Logits = self._session.run(",
)
"""A session that waits, and one that dies, while there is such a file in the server's folder."""


def build(project: Project, folder: str, *options: str, code: int = 0) -> str:
    """Deploy in a project; return what was said."""
    ended = project.python("-m", "bench.deploy.build", folder, *options, code=code)
    return ended.stdout + ended.stderr


@pytest.fixture(scope="session")
def deployed(measured: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The measured project with the folder `out`; read it, do not change it."""
    return shared_project(tmp_path_factory, "deployed", lambda project: build(project, "out", "--stand-in"), measured)


@pytest.fixture
def folder(deployed: Project, tmp_path: Path) -> Path:
    """A copy of the folder, to be changed."""
    return Path(shutil.copytree(deployed.folder / "out", tmp_path / "out"))


def set_limits(folder: Path, **limits: Any) -> None:
    change(folder, lambda settings: settings["limits"].update(limits))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a folder's settings."""
    path = folder / "settings.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    edit(settings)
    path.write_text(json.dumps(settings), encoding="utf-8")


def replace_code(folder: Path, old: str, new: str, name: str = "bench/runtimes/onnxruntime.py") -> None:
    """Change a deployed file, and its hash."""
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    change(folder, lambda settings: settings["files"].update({name: file_sha256(path)}))


class Server:
    """A server that runs; `client`: keeps its connections open."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "server.py", "--port", "0", *options],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        first = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+): loading", first)
        if not found:
            pytest.fail(first + self.process.communicate(timeout=LIMIT_SECONDS)[1])
        self.port = int(found[1])
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=LIMIT_SECONDS)

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.client.get("/v2/health/ready").status_code == 200)

    def classify(self, *texts: Any) -> httpx.Response:
        return self.client.post("/classify", json={"texts": texts})

    def results(self, *texts: Any) -> list[dict[str, Any]]:
        response = self.classify(*texts)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()["results"]
        return found

    def metric(self, name: str) -> float:
        """Return a value of /metrics."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.client.get("/metrics").text, re.MULTILINE)
        assert found
        return float(found[1])

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and what it said of an error."""
        _, said = self.process.communicate(timeout=LIMIT_SECONDS)
        return self.process.returncode, said


@contextmanager
def serving(folder: Path, *options: str, **environment: str) -> Iterator[Server]:
    """Run a folder's server until the block ends."""
    server = Server(folder, *options, **environment)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.client.close()
        server.process.kill()
        server.process.communicate()


@pytest.fixture(scope="module")
def server(deployed: Project) -> Iterator[Server]:
    """A server of the folder as it was deployed."""
    with serving(deployed.folder / "out") as running:
        yield running


def refused_start(folder: Path, **environment: str) -> str:
    """Return what a server says that does not start."""
    ended = subprocess.run(
        [sys.executable, "server.py", "--port", "0"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_server_that_ends_at_its_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", "raise SystemExit('no GPU is seen here')"]
    with pytest.raises(WorkerError, match=r"did not start.*\n.*no GPU is seen here"), running(command, tmp_path, 60, 1):
        pass


# What is in the folder


def test_the_folder_has_what_its_row_needs_and_nothing_that_measures(deployed: Project) -> None:
    out = deployed.folder / "out"
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {"model/fp32.onnx", "tokenizer.json", "settings.json", "server.py", "README.md", "Dockerfile"} <= files
    packages = {name.split("/")[1] for name in files if name.startswith("bench/")} - {"__init__.py"}
    assert packages == {"core", "deploy", "inputs", "machine", "proof", "runtimes", "serving", "timing"}
    assert {name for name in files if "/runtimes/" in name and "/base/" not in name} == {
        "bench/runtimes/__init__.py",
        "bench/runtimes/onnxruntime.py",
    }
    assert {name for name in files if name.startswith("bench/timing/")} == {
        "bench/timing/__init__.py",
        "bench/timing/evidence.py",
    }
    settings = Settings.read(out)
    unchecked = {"settings.json", "README.md", "Dockerfile", "requirements.txt", "requirements-ray.txt"}
    unchecked |= {"triton/ort_cpu_fp32/config.pbtxt", "triton/ort_cpu_fp32/1/model.onnx"}
    assert set(settings.files) == files - unchecked
    assert settings.digest == file_sha256(deployed.folder / "artifacts/served/ort_cpu_fp32.json")
    assert settings.figures.tokens_per_s == float(deployed.rows("results/serving.csv")[0]["requests_per_s"])
    assert settings.labels == ["NEGATIVE", "POSITIVE"]


def test_requirements_are_pinned_with_hashes_and_of_this_row_alone(deployed: Project) -> None:
    text = deployed.read("out/requirements.txt")
    names = set(re.findall(r"^([\w.-]+)==", text, re.MULTILINE))
    assert {"onnxruntime", "onnxruntime-gpu"} & names
    assert {"onnx", "numpy", "tokenizers", "starlette", "uvicorn", "prometheus-client"} <= names
    assert not {"torch", "transformers", "dvc", "openvino", "pandas", "mlcommons-loadgen"} & names
    blocks = re.split(r"\n(?=\w)", text.strip())
    assert all("--hash=sha256:" in block for block in blocks)
    assert "://" not in text
    of_ray = set(re.findall(r"^([\w.-]+)==", deployed.read("out/requirements-ray.txt"), re.MULTILINE))
    assert "ray" in of_ray
    assert not of_ray & names


@pytest.mark.parametrize(
    ("runtime", "needed"),
    [
        ("onnxruntime", {"onnxruntime"}),
        ("openvino", {"openvino"}),
        ("pytorch", {"torch", "transformers"}),
        ("pytorch_varlen", {"torch", "transformers"}),
        ("tensorrt", {"onnxruntime"}),  # TensorRT too, where it is installed
    ],
)
def test_the_code_of_each_runtime_is_whole_and_brings_its_own_libraries(
    runtime: str, needed: set[str], tmp_path: Path
) -> None:
    files = closure(SERVER, f"bench/runtimes/{runtime}.py")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    modules = sorted(name.removesuffix(".py").replace("/", ".") for name in files if not name.endswith("__init__.py"))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", f"import {', '.join(modules)}"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=LIMIT_SECONDS)
    text, _ = requirements(files, import_runtime(runtime).LIBRARIES)
    names = set(re.findall(r"^([\w.-]+?)(?:-gpu)?==", text, re.MULTILINE))
    assert names & {"onnxruntime", "openvino", "torch", "transformers"} == needed


def test_readme_and_settings_say_that_the_weights_are_random(deployed: Project, server: Server) -> None:
    assert "The weights are random" in deployed.read("out/README.md")
    assert "The weights are random" in server.classify("fine").json()["warning"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["new"], "the model is a stand-in with random weights, whose answers mean nothing: give --stand-in"),
        (["out", "--stand-in"], "deploy: out is there already and not an empty folder: name another"),
        (["new", "--stand-in", "--row", "nix"], "no variant 'nix', allowed: torch_cpu_fp32, ort_cpu_fp32"),
        (
            ["new", "--stand-in", "--row", "ort_cuda_fp16"],
            "ort_cuda_fp16 was not measured (skipped: no NVIDIA GPU found)",
        ),
    ],
)
def test_what_cannot_be_deployed_is_refused(deployed: Project, options: list[str], message: str) -> None:
    if "ort_cuda_fp16" in options and not deployed.read("metrics/env.json").count('"cuda": null'):
        pytest.skip("this machine has a GPU")
    said = build(deployed, *options, code=1)
    assert message in said
    assert "Traceback" not in said
    assert not (deployed.folder / "new").exists()


def test_a_stale_run_is_refused(measured_copy: Project) -> None:
    measured_copy.set_params(lambda params: params["serving"].update(seconds=0.2))
    assert "is not of the parameters, files and machine that are here" in build(
        measured_copy, "new", "--stand-in", code=1
    )


@pytest.mark.slow
def test_where_no_row_sustains_a_rate_the_closed_loops_pick_is_taken(measured_copy: Project) -> None:
    def serve_none(params: dict[str, Any]) -> None:
        params["serving"]["variants"] = []

    measured_copy.set_params(serve_none)
    measured_copy.repro()
    build(measured_copy, "new", "--stand-in")
    settings = Settings.read(measured_copy.folder / "new")
    panels = json.loads(measured_copy.read("results/findings.json"))["panels"]
    [cell] = [panel["picks"][-1]["cell"] for panel in panels if panel["picks"]]
    assert (settings.row, settings.max_batch) == (cell["variant"], cell["batch_size"])
    assert settings.figures.tokens_per_s is None


def test_the_variables_of_the_measurement_are_set_and_others_are_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"OMP_NUM_THREADS": "7", "ORT_TUNING": "1", "NVIDIA_TF32_OVERRIDE": "1", "OWN": "kept"}
    monkeypatch.setattr(os, "environ", found)
    change(folder, lambda settings: settings["variables"].update(NVIDIA_TF32_OVERRIDE="0"))
    set_variables(folder)
    assert (found["OMP_NUM_THREADS"], found["NVIDIA_TF32_OVERRIDE"], found["OWN"]) == ("1", "0", "kept")
    assert "ORT_TUNING" not in found


@pytest.mark.slow
def test_an_environment_of_its_requirements_alone_serves_it(folder: Path, tmp_path: Path) -> None:
    python = tmp_path / "own" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "own")],
        [
            *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile"),
            *("--require-hashes", "-r", "requirements.txt"),
        ],
    ):
        subprocess.run(command, cwd=folder, check=True, timeout=600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        with serving(folder, PYTHONPATH="") as running:
            assert running.results("fine .")[0]["label"] in ("NEGATIVE", "POSITIVE")


# What it answers


def test_a_text_gets_the_scores_that_a_plain_pipeline_gives(deployed: Project, server: Server) -> None:
    from transformers import pipeline

    classify = pipeline(
        "text-classification", model=str(deployed.folder / "artifacts/model"), truncation=True, max_length=32
    )
    found = server.results(*TEXTS)
    for text, own in zip(TEXTS, found, strict=True):
        wanted = {each["label"]: each["score"] for each in classify(text, top_k=None)}
        assert own["scores"] == pytest.approx(wanted, abs=1e-5)
        assert own["label"] == max(wanted, key=lambda label: wanted[label])
        assert own["score"] == pytest.approx(max(wanted.values()), abs=1e-5)
    assert [own.get("cut", False) for own in found] == [False, False, False, True, False]


def test_the_command_of_the_readme_gets_the_label_that_it_names(deployed: Project, server: Server) -> None:
    readme = deployed.read("out/README.md")
    [body] = re.findall(r"-d '(\{.*\})'", readme)
    [label] = re.findall(r"the label `(\w+)`", readme)
    response = server.client.post("/classify", content=body, headers={"Content-Type": "application/json"})
    assert response.json()["results"][0]["label"] == label


def infer(texts: list[Any], **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}], **more}


def test_the_open_inference_protocol_is_spoken(server: Server) -> None:
    name = "/v2/models/ort_cpu_fp32"
    assert server.client.get("/v2/health/live").status_code == 200
    assert server.client.get(f"{name}/ready").status_code == 200
    metadata = server.client.get(name).json()
    assert metadata["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    answer = server.client.post(f"{name}/infer", json=infer(TEXTS, id="7")).json()
    assert (answer["model_name"], answer["id"]) == ("ort_cpu_fp32", "7")
    label, scores = answer["outputs"]
    plain = server.results(*TEXTS)
    assert label["data"] == [each["label"] for each in plain]
    assert scores["shape"] == [len(TEXTS), 2]
    assert scores["data"] == pytest.approx([score for each in plain for score in each["scores"].values()], abs=1e-6)
    assert answer["parameters"]["cut"] == "3"
    alone = server.client.post(f"{name}/infer", json=infer(["a"], outputs=[{"name": "scores"}])).json()
    assert [tensor["name"] for tensor in alone["outputs"]] == ["scores"]
    assert server.client.get("/v2/models/other").status_code == 404
    wrong = infer(["a", "b"])
    wrong["inputs"][0]["shape"] = [3]
    assert server.client.post(f"{name}/infer", json=wrong).json() == {"error": "inputs.0: 2 texts, shape [3]"}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "Invalid JSON"),
        (b"nope", 400, "Invalid JSON"),
        (b"[1]", 400, "Input should be an object"),
        (b"{}", 400, "texts: Field required"),
        (b'{"texts": []}', 400, "texts: List should have at least 1 item"),
        (b'{"texts": "a"}', 400, "texts: Input should be a valid array"),
        (b'{"texts": ["a", 3]}', 400, "texts.1: Input should be a valid string"),
        (b'{"texts": ["a"], "more": 1}', 400, "more: Extra inputs are not permitted"),
        (b'{"texts": ["\xff\xfe"]}', 400, "Invalid JSON: invalid unicode"),
        (b'{"texts": ["\\ud800"]}', 400, "Invalid JSON"),
        (json.dumps({"texts": ["a"] * 100_000}).encode(), 400, "texts: List should have at most"),
        (json.dumps({"texts": ["a" * 9000]}).encode(), 400, "texts.0: String should have at most 8192 characters"),
        (json.dumps({"texts": ["a" * 10_000_000]}).encode(), 413, "the request has more than 8388608 bytes"),
    ],
    ids=lambda value: value[:20].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_request_that_is_none_is_told_why(server: Server, body: bytes, status: int, message: str) -> None:
    response = server.client.post("/classify", content=body)
    assert response.status_code == status
    assert message in response.json()["error"]
    assert server.results("fine")[0]["label"]


def test_a_body_without_a_length_ends_at_the_limit(server: Server) -> None:
    response = server.client.post("/classify", content=iter([b"x" * 2**20] * 12))
    assert response.status_code == 413


BODY = b'{"texts": ["fine"]}'
HEAD = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 19\r\n"


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (HEAD + b"Connection: close\r\n\r\n" + BODY, [200]),
        ((HEAD + b"\r\n" + BODY) * 2 + HEAD + b"Connection: close\r\n\r\n" + BODY, [200, 200, 200]),
        (HEAD + b"Expect: 100-continue\r\nConnection: close\r\n\r\n" + BODY, [100, 200]),
        (HEAD.replace(b"1.1", b"1.0") + b"\r\n" + BODY, [200]),
        (HEAD.replace(b"classify", b"classify?a=b") + b"Connection: close\r\n\r\n" + BODY, [200]),
        (HEAD.replace(b"19", b"99999999") + b"\r\nabc", [413]),
        (HEAD.replace(b"POST", b"PUT") + b"Connection: close\r\n\r\n" + BODY, [405]),
    ],
    ids=["close", "pipelined", "expect", "HTTP/1.0", "query", "too long", "PUT"],
)
def test_every_kind_of_http_request_is_answered(server: Server, sent: bytes, statuses: list[int]) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_SECONDS) as client:
        client.sendall(sent)
        found = b""
        while (part := client.recv(2**16)) and statuses != [413]:
            found += part
    found += part
    assert [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", found)] == statuses
    assert found.count(server.classify("fine").content) == statuses.count(200)


@pytest.mark.parametrize(
    ("task", "logits", "wanted"),
    [
        ("single_label", [0.0, 0.0], {"label": "a", "score": 0.5, "scores": {"a": 0.5, "b": 0.5}}),
        ("multi_label", [9.0, 0.0], {"labels": ["a"], "scores": {"a": pytest.approx(0.99988, abs=1e-5), "b": 0.5}}),
        ("regression", [3.5, -1.0], {"values": {"a": 3.5, "b": -1.0}}),
    ],
)
def test_what_an_answer_says_follows_from_the_task(
    deployed: Project, task: Task, logits: list[float], wanted: dict[str, Any]
) -> None:
    import numpy as np

    from bench.deploy.app import Api
    from bench.deploy.service import Service, scores_of

    out = deployed.folder / "out"
    settings = Settings.read(out).model_copy(update={"task": task, "labels": ["a", "b"]})
    [scores] = scores_of(np.array([logits], dtype=np.float32), task)
    assert Api(Service(out, settings, lambda: None))._named(scores) == wanted


def test_pairs_of_texts_are_what_a_model_of_pairs_is_asked_with(folder: Path) -> None:
    change(folder, lambda settings: settings.update(takes_pairs=True))
    with serving(folder) as running:
        [first, second] = running.results(["a film", "to love"], ["a", "b"])
        assert first["scores"] != second["scores"]
        assert "texts.0: Input should be a valid array" in running.classify("a film").json()["error"]
        answer = running.client.post("/v2/models/ort_cpu_fp32/infer", json=infer(["a film", "to love"])).json()
        assert answer["outputs"][1]["data"] == pytest.approx(list(first["scores"].values()), abs=1e-6)


# Triton


def parsed(text: str) -> Any:
    """Return a config.pbtxt as Triton's own definition reads it: that module alone, which needs no gRPC."""
    from google.protobuf import text_format

    found = importlib.util.find_spec("tritonclient")
    if found is None:
        pytest.skip("Triton's client is for Linux on x86-64 alone")
    path = Path(found.origin or "").parent / "grpc/model_config_pb2.py"
    own = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert own
    assert own.loader
    module = importlib.util.module_from_spec(own)
    own.loader.exec_module(module)
    return text_format.Parse(text, module.ModelConfig())


def test_tritons_model_repository_is_of_the_row(deployed: Project) -> None:
    import onnx

    place = deployed.folder / "out/triton/ort_cpu_fp32"
    assert file_sha256(place / "1/model.onnx") == file_sha256(deployed.folder / "artifacts/onnx/fp32.onnx")
    config = parsed((place / "config.pbtxt").read_text(encoding="utf-8"))
    assert (config.name, config.backend, config.max_batch_size) == ("ort_cpu_fp32", "onnxruntime", 2)
    graph = onnx.load(str(place / "1/model.onnx")).graph
    assert [each.name for each in config.input] == [each.name for each in graph.input]
    assert {tuple(each.dims) for each in config.input} == {(32,)}
    assert [(each.name, list(each.dims)) for each in config.output] == [("logits", [2])]
    types = [each.type.tensor_type.elem_type for each in (*graph.input, *graph.output)]
    assert types == [onnx.TensorProto.INT64, onnx.TensorProto.INT64, onnx.TensorProto.FLOAT]
    [group] = config.instance_group
    assert (group.count, group.KIND_CPU) == (1, group.kind)
    assert list(config.dynamic_batching.preferred_batch_size) == [2]
    assert config.dynamic_batching.default_queue_policy.default_timeout_microseconds == 10_000_000
    assert config.parameters["intra_op_thread_count"].string_value == "1"
    assert not config.HasField("optimization")


def test_triton_is_told_a_tensorrt_rows_profile_and_flags(deployed: Project) -> None:
    from bench.deploy.build import rendered
    from bench.deploy.triton import described

    out = deployed.folder / "out"
    changes = {"runtime": "tensorrt", "device": "cuda", "precision": "int8", "padding": "longest", "multiple_of": 8}
    settings = Settings.read(out).model_copy(update=changes)
    config = parsed(rendered("config.pbtxt", {"s": settings, **described(settings, settings.spec(out))}))
    assert {tuple(each.dims) for each in config.input} == {(-1,)}
    [accelerator] = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == {
        "precision_mode": "INT8",
        "max_workspace_size_bytes": str(2**31),
        "trt_builder_optimization_level": "3",
        "trt_profile_min_shapes": "input_ids:1x8,attention_mask:1x8",
        "trt_profile_opt_shapes": "input_ids:2x8,attention_mask:2x8",
        "trt_profile_max_shapes": "input_ids:2x32,attention_mask:2x32",
    }


# Faults


def test_a_hundred_clients_that_hang_up_leave_nothing_behind(server: Server) -> None:
    body = json.dumps({"texts": TEXTS}).encode()
    head = f"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    wanted = server.results(*TEXTS)
    for number in range(100):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(head + (body if number % 2 else body[:20]))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no goodbye
    assert server.results(*TEXTS) == wanted
    wait_until(lambda: not server.metric("classifier_waiting_texts"))


def test_a_full_queue_turns_requests_away_and_answers_the_others(folder: Path) -> None:
    set_limits(folder, waiting_texts=4, seconds=LIMIT_SECONDS)
    replace_code(folder, *STEERED_SESSION)
    with serving(folder) as running, ThreadPoolExecutor(12) as clients:
        (folder / "holds").touch()
        asked = [clients.submit(running.classify, "fine") for _ in range(12)]
        wait_until(lambda: sum(each.done() for each in asked) == 8)
        (folder / "holds").unlink()
        found = [each.result() for each in asked]
        assert Counter(response.status_code for response in found) == {200: 4, 503: 8}
        refused = next(response for response in found if response.status_code == 503)
        assert refused.headers["retry-after"] == "1"
        assert "texts wait already, allowed: 4" in refused.json()["error"]
        assert len({response.text for response in found if response.status_code == 200}) == 1
        assert running.metric('classifier_requests_total{code="503"}') == 8


def test_an_answer_that_takes_too_long_is_told_and_the_next_one_is_right(folder: Path) -> None:
    wanted_seconds = 0.05
    replace_code(folder, *SLOW_SESSION)
    set_limits(folder, seconds=wanted_seconds)
    with serving(folder) as running:
        response = running.classify("fine")
        assert response.status_code == 504
        assert response.json() == {"error": "no answer within 0.05 s"}
        assert running.classify("fine").status_code in (503, 504)
        with socket.create_connection(("127.0.0.1", running.port)) as client:
            client.sendall(b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")  # and no body
            assert client.recv(100).startswith(b"HTTP/1.1 504 ")
        assert running.client.get("/v2/health/ready").status_code == 200


def test_a_session_that_dies_ends_the_server_and_leaves_no_request_without_an_answer(folder: Path) -> None:
    replace_code(folder, *STEERED_SESSION)
    set_limits(folder, seconds=LIMIT_SECONDS)
    with serving(folder) as running:
        assert status_of(running) == 200
        (folder / "holds").touch()
        with ThreadPoolExecutor(30) as clients:
            found = [clients.submit(running.classify, "fine") for _ in range(30)]
            wait_until(lambda: running.metric("classifier_waiting_texts") == 30)
            (folder / "dies").touch()
            (folder / "holds").unlink()
            answers = [each.result() for each in found]
        assert {response.status_code for response in answers} == {500}
        assert {response.json()["error"] for response in answers} == {
            "the session ended: RuntimeError: the device is gone"
        }
        assert status_of(running) in (0, 503)
        code, said = running.ended()
    assert code == 1
    assert "error: the session ended: RuntimeError('the device is gone')" in said


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def status_of(server: Server) -> int:
    """Return the status of a request, 0 where the server is gone."""
    try:
        return server.classify("fine").status_code
    except httpx.TransportError:
        return 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_the_containers_files_serve_and_a_supervisor_starts_them_anew(
    folder: Path, server: Server, tmp_path: Path
) -> None:
    """Its loop does as `Restart=on-failure` of systemd and `--restart on-failure` of Docker do."""
    replace_code(folder, *STEERED_SESSION)
    copied = tmp_path / "service"
    copied.mkdir()
    for line in re.findall(r"^COPY (.+)$", (folder / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE):
        *patterns, target = line.split()
        for path in (found for pattern in patterns for found in folder.glob(pattern)):
            if path.is_dir():
                shutil.copytree(path, copied / target)
            else:
                shutil.copy(path, copied / target)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    started: list[subprocess.Popen[bytes]] = []
    codes: list[int] = []

    def supervise() -> None:
        while not codes or codes[-1]:
            started.append(subprocess.Popen([sys.executable, "server.py", "--port", port], cwd=copied))
            codes.append(started[-1].wait(LIMIT_SECONDS))

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LIMIT_SECONDS) as client:

        def answers() -> bool:
            try:
                response = client.post("/classify", json={"texts": ["fine"]})
            except httpx.TransportError:
                return False
            return response.status_code == 200 and bool(response.json()["results"] == server.results("fine"))

        for count in (1, 2):
            wait_until(answers)
            (copied / "dies").touch()
            assert not answers()
            wait_until(lambda count=count: len(codes) == count)  # type: ignore[misc]
            (copied / "dies").unlink()
        wait_until(answers)
    started[-1].send_signal(signal.SIGTERM)
    supervisor.join(LIMIT_SECONDS)
    assert codes == [1, 1, 0]


def test_a_changed_file_is_found_before_anything_is_served(folder: Path) -> None:
    with (folder / "model/fp32.onnx").open("ab") as stream:
        stream.write(b"\0")
    assert "error: model/fp32.onnx is another file than was deployed" in refused_start(folder)
    (folder / "model/fp32.onnx").unlink()
    assert "error: model/fp32.onnx is missing" in refused_start(folder)


def test_a_cpu_without_the_measured_ones_instructions_is_refused(folder: Path) -> None:
    change(folder, lambda settings: settings["machine"].update(instructions="amx_fp128"))
    assert re.search(
        r"error: this CPU lacks instructions of the measured one \(.+\): amx_fp128: ", refused_start(folder)
    )


def test_an_engine_of_another_gpu_and_a_machine_without_one_are_refused(folder: Path) -> None:
    change(folder, lambda settings: settings.update(device="cuda", engine="engine"))
    change(folder, lambda settings: settings["machine"].update(gpu="NVIDIA H200"))
    said = refused_start(folder, PYTHONPATH=str(STAND_INS))
    assert "error: the engine is for NVIDIA H200, this GPU is Another GPU" in said
    assert "error: this row needs an NVIDIA GPU, and none is seen here" in refused_start(
        folder, CUDA_VISIBLE_DEVICES=""
    )


def test_a_session_that_contradicts_its_row_serves_nothing(folder: Path) -> None:
    change(folder, lambda settings: settings.update(precision="int8"))
    assert "error: ort_cpu_fp32: requested int8, observed float" in refused_start(folder)


def test_two_servers_on_one_port_are_one(folder: Path, server: Server) -> None:
    ended = subprocess.run(
        [sys.executable, "server.py", "--port", str(server.port)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 1
    assert f"error: 127.0.0.1:{server.port} cannot be listened on" in ended.stderr
    assert server.results("fine")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_on_sigterm_under_load_every_accepted_request_is_answered(folder: Path) -> None:
    with serving(folder) as running:
        [wanted] = running.results("fine")
        found: list[Any] = []

        def send() -> None:
            with httpx.Client(base_url=running.client.base_url, timeout=LIMIT_SECONDS) as client:
                is_open = True
                while is_open:
                    response = client.post("/classify", json={"texts": ["fine"]})
                    found.append((response.status_code, response.json()["results"][0] == wanted))
                    is_open = response.headers.get("connection") != "close"

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        while len(found) < 3 * len(threads):
            time.sleep(0.05)
        running.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(LIMIT_SECONDS)
        assert running.ended()[0] == 0
    assert len(found) > 8
    assert set(found) == {(200, True)}


ON_RAY = """
import sys
import ray
from ray import serve
ray.init(address="local", num_cpus=2, include_dashboard=False)
serve.start(http_options={"port": int(sys.argv[1])})
from on_ray import Replicas, app
serve.run(app(Replicas()))
print("answers", flush=True)
sys.stdin.read()
"""
"""As `serve run on_ray:app` does, at a port of its own."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ray is not locked for Windows")
def test_a_replica_on_ray_gives_the_answers_of_the_server(deployed: Project, server: Server) -> None:
    pytest.importorskip("ray.serve", reason="`python run.py test` installs bench/deploy/ray.lock")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-c", ON_RAY, str(port)],
        cwd=deployed.folder / "out",
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as cluster:
        assert cluster.stdin
        assert cluster.stdout
        try:
            assert "answers\n" in cluster.stdout
            answer = httpx.post(f"http://127.0.0.1:{port}/classify", json={"texts": TEXTS}, timeout=LIMIT_SECONDS)
        finally:
            cluster.stdin.close()
    assert answer.json()["results"] == server.results(*TEXTS)
