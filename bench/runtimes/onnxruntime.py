"""ONNX Runtime with its CPU and CUDA execution providers."""

import contextlib
import ctypes
import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import DataError
from bench.core.files import first_line, shortened
from bench.core.model_inputs import AnyBatch, IntArray, Padding
from bench.core.reports import Evidence
from bench.runtimes.base.session import Logits, Session, SessionSpec, Unavailable, Unfit

if TYPE_CHECKING:
    import onnxruntime

LIBRARIES = ("onnxruntime",)
SUPPORTED = frozenset({("cpu", "fp32"), ("cpu", "int8"), ("cuda", "fp32"), ("cuda", "tf32"), ("cuda", "fp16")})
PADDINGS: tuple[Padding, ...] = ("fixed", "longest")
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {"cuda_graph": (True, False)}
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
ERROR_ONLY = 3
SOURCE_LINE = re.compile(r"/\S+\.(cc|h|cpp):\d+ ?")
"""The place in ONNX Runtime's source that its messages begin with."""
NOT_TAKEN = ("default CPU EP", "CPU EP fallback", "graph capture", "cuda graph", "CUDA Graph", "CUDA graph")
MISSING = (
    "cannot open shared object",
    "LoadLibrary failed",
    "Could not find module",
    "Failed to load library",
    "no CUDA-capable device",
    "CUDA driver version is insufficient",
)


def import_libraries() -> None:
    """Import ONNX Runtime, which from then on logs errors alone."""
    global onnxruntime  # noqa: PLW0603  (whoever asks what is supported does not import it)
    import onnxruntime

    onnxruntime.set_default_logger_severity(ERROR_ONLY)


def open_session(spec: SessionSpec) -> Session:
    """Load `spec.graph` on exactly one execution provider; Unavailable if it cannot be had."""
    import_libraries()
    # 1.18 has `use_tf32`, and keeps a CUDA graph a shape; older sessions replay the first for any other shape
    is_old = tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 18)
    provider = PROVIDERS[spec.device]
    has_graph = bool(spec.options.get("cuda_graph"))
    options: dict[str, str] = {}
    if spec.device == "cuda":
        load_cuda_libraries()
        options = {"device_id": "0", "enable_cuda_graph": "1" if has_graph else "0"}
        options |= {} if is_old else {"use_tf32": "1" if spec.precision == "tf32" else "0"}
    if not has_graph:
        return PlainSession(create_session(spec, provider, options), spec)
    if not is_old:
        return CudaGraphSession(create_session(spec, provider, options), spec)
    if spec.padding != "fixed":
        raise Unavailable(
            f"ONNX Runtime {onnxruntime.__version__} keeps one CUDA graph a session; 1.18 and newer keep more"
        )
    return SessionPerBatch(lambda _size: CudaGraphSession(create_session(spec, provider, options), spec))


def load_cuda_libraries() -> None:
    """Load the CUDA and cuDNN libraries that pip installed, where this version can; else the system's are used."""
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(None):
            onnxruntime.preload_dlls()


def create_session(
    spec: SessionSpec, provider: str, options: dict[str, str], profile_prefix: str = "", graph: bytes | None = None
) -> Any:
    """Create an InferenceSession of `spec.graph` (or `graph`) on `provider` alone, without any fall-back to another.

    `profile_prefix`: of the file that it writes its operators' times to.
    """
    if provider not in onnxruntime.get_available_providers():
        raise Unavailable(f"this build of ONNX Runtime has no {provider}")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = spec.cpu_threads
    settings.inter_op_num_threads = 1
    if spec.padding == "fixed":  # the length is then folded, as in a graph of this length alone
        settings.add_free_dimension_override_by_name("length", spec.sequence_length)
    if profile_prefix:
        settings.enable_profiling = True
        settings.profile_file_prefix = profile_prefix
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    shows_placement = hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info")
    if provider != "CPUExecutionProvider" and not shows_placement:  # else `bench.timing.evidence` checks the placement
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(
            graph or str(spec.graph), settings, providers=[(provider, options)], enable_fallback=0
        )
    except Exception as problem:
        raise _explained(problem, provider, spec.graph) from problem
    if session.get_providers()[0] != provider:
        raise Unavailable(f"{provider} does not load: ONNX Runtime went to {session.get_providers()[0]} instead")
    return session


def _explained(problem: Exception, provider: str, graph: Path) -> Exception:
    """Return the error to raise instead: a missing library, a damaged graph, one that the provider does not take."""
    lines = (line.strip() for line in str(problem).splitlines() if any(phrase in line for phrase in MISSING))
    missing = next(lines, "")[-300:] or _unloadable_provider(provider)
    if missing:
        return Unavailable(f"{provider} does not load: {missing}")
    if type(problem).__name__ in ("InvalidProtobuf", "NoSuchFile", "InvalidGraph"):
        return damaged_graph(graph, problem)
    if any(phrase in str(problem) for phrase in NOT_TAKEN):
        return Unfit(
            f"{provider} does not take this graph as a whole: {shortened(SOURCE_LINE.sub('', first_line(problem)))}"
        )
    return problem


def damaged_graph(graph: Path, problem: Exception) -> DataError:
    """Return the error to raise for a graph file that cannot be read."""
    advice = "remove it and run `dvc repro`: it is then made anew"
    return DataError(f"{graph.as_posix()} is damaged or missing ({problem}): {advice}")


def _unloadable_provider(provider: str) -> str:
    """Return the loader's error of a provider's library: ONNX Runtime logs it, and raises the forbidden fall-back."""
    stem = f"onnxruntime_providers_{provider.removesuffix('ExecutionProvider').lower()}"
    folder = Path(onnxruntime.__file__).with_name("capi")
    for name in (f"lib{stem}.so", f"{stem}.dll"):
        if (folder / name).exists():
            try:
                ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), mode=ctypes.RTLD_GLOBAL)
                ctypes.CDLL(str(folder / name))
            except OSError as problem:
                return str(problem).strip()[-300:]
    return ""


class PlainSession(Session):
    """`session.run` with host arrays, as most services call it."""

    def __init__(self, session: Any, spec: SessionSpec) -> None:
        self._session = session
        self._spec = spec
        self._names = [value.name for value in session.get_inputs()]

    def run(self, batch: AnyBatch) -> Logits:
        logits: Logits = self._session.run(["logits"], dict(zip(self._names, batch.arrays, strict=True)))[0]
        return logits

    def operator_ms(self, batches: Sequence[AnyBatch]) -> dict[str, float]:
        """Measure with a second session: one that records is slower, whether it is looked at or not."""
        with tempfile.TemporaryDirectory() as folder:
            recording = create_session(self._spec, PROVIDERS["cpu"], {}, profile_prefix=str(Path(folder) / "profile"))
            session = PlainSession(recording, self._spec)
            for batch in batches:
                session.run(batch)
            events = json.loads(Path(recording.end_profiling()).read_text(encoding="utf-8"))
        times: Counter[str] = Counter()
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                times[event["args"]["op_name"]] += event["dur"] / 1000
        return dict(times)

    def evidence(self) -> Evidence:
        provider = self._session.get_providers()[0]
        return Evidence(
            providers=self._session.get_providers(),
            **_placement(self._session),
            provider_options=self._session.get_provider_options().get(provider, {}),
            cpu_threads=self._session.get_session_options().intra_op_num_threads,
            **graph_evidence(self._spec.graph),
        )


def _placement(session: Any) -> dict[str, Any]:
    """Return nodes of the optimized graph by provider, operators elsewhere than on the first; empty if not shown."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    placed: Counter[str] = Counter()
    elsewhere: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        nodes = part.get_nodes()
        placed[part.ep_name] += len(nodes)
        if part.ep_name != session.get_providers()[0]:
            elsewhere.update(node.op_type for node in nodes)
    return {"nodes_placed": dict(placed), "operators_elsewhere": dict(elsewhere)}


class CudaGraphSession(PlainSession):
    """IO binding and CUDA graphs: fixed device buffers and one captured graph a shape; a run copies in and out."""

    is_of_fixed_sizes = True

    def __init__(self, session: Any, spec: SessionSpec) -> None:
        super().__init__(session, spec)
        self._bound: dict[tuple[int, int], BoundBuffers] = {}

    def run(self, batch: AnyBatch) -> Logits:
        shape = batch.shape
        if shape not in self._bound:
            self._bound[shape] = BoundBuffers(self._session, self._names, shape, graph_id=len(self._bound) + 1)
        return self._bound[shape].run(batch.arrays)

    def evidence(self) -> Evidence:
        return super().evidence().model_copy(update={"captures": len(self._bound)})


class SessionPerBatch(Session):
    """One session a batch size, where a session is good for one shape alone; each is opened when it is first needed."""

    is_for_one_batch_size = True
    is_of_fixed_sizes = True

    def __init__(self, open_one: Callable[[int], PlainSession]) -> None:
        self._open_one = open_one
        self._sessions: dict[int, PlainSession] = {}

    def prepare(self, batch_size: int) -> None:
        if batch_size not in self._sessions:
            self._sessions[batch_size] = self._open_one(batch_size)

    def run(self, batch: AnyBatch) -> Logits:
        self.prepare(len(batch))
        return self._sessions[len(batch)].run(batch)

    def evidence(self) -> Evidence:
        """Return what the first open session shows: all are of one graph with the same settings."""
        return next(iter(self._sessions.values())).evidence() if self._sessions else Evidence()


class BoundBuffers:
    """Device buffers of one shape `[batch, length]` and the CUDA graph that reads and writes them."""

    def __init__(self, session: Any, names: list[str], shape: tuple[int, int], graph_id: int) -> None:
        import numpy as np

        self._session = session
        self._dtype = np.int32 if session.get_inputs()[0].type == "tensor(int32)" else np.int64
        empty = np.zeros(shape, dtype=self._dtype)
        self._inputs = {name: onnxruntime.OrtValue.ortvalue_from_numpy(empty, "cuda", 0) for name in names}
        labels = session.get_outputs()[0].shape[1]
        self._logits = onnxruntime.OrtValue.ortvalue_from_shape_and_type((shape[0], labels), np.float32, "cuda", 0)
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output("logits", self._logits)
        self._options = onnxruntime.RunOptions()
        # A graph is replayed for the id it was captured under: one id a shape, or another shape's results come back.
        self._options.add_run_config_entry("gpu_graph_id", str(graph_id))

    def run(self, inputs: tuple[IntArray, ...]) -> Logits:
        for value, array in zip(self._inputs.values(), inputs, strict=True):
            value.update_inplace(array.astype(self._dtype, copy=False))
        self._session.run_with_iobinding(self._binding, self._options)
        logits: Logits = self._logits.numpy()
        return logits


GEMMS = ("MatMul", "Gemm", "Conv", "Attention")
"""Parts of the names of operators that multiply by a weight: MatMulInteger, QLinearMatMul, ConvInteger, …"""
PASSED_THROUGH = frozenset({"DequantizeLinear", "Cast", "Transpose", "Reshape", "Identity", "Squeeze", "Unsqueeze"})
"""Operators between a weight and its GEMM that leave its values the same."""


def graph_evidence(path: Path) -> dict[str, Any]:
    """Return the fields of `Evidence` that the graph file shows."""
    import onnx

    graph = onnx.load(str(path)).graph
    weights = {weight.name: weight for weight in graph.initializer}
    kinds = {name: onnx.TensorProto.DataType.Name(weight.data_type).lower() for name, weight in weights.items()}
    sizes: Counter[str] = Counter()
    for name, weight in weights.items():
        if weight.dims:
            sizes[kinds[name]] += len(weight.raw_data)
    elements: Counter[str] = Counter()
    for name, kind in _weights_of_gemms(graph, kinds).items():
        if len(weights[name].dims) > 1:
            elements[kind] += math.prod(weights[name].dims)
    return {
        "weight_bytes": dict(sizes),
        "product_weights": dict(elements),
        "nodes": len(graph.node),
        "operators": dict(Counter(node.op_type for node in graph.node).most_common(8)),
    }


def _weights_of_gemms(graph: Any, kinds: dict[str, str]) -> dict[str, str]:
    """Return by name the initializers that a GEMM or convolution multiplies by, with the type in which it does.

    `kinds`: each initializer's type.  One that is quantized in the graph has the type of the zero point.
    """
    origin = {name: (name, kind) for name, kind in kinds.items()}
    found: dict[str, str] = {}
    for node in graph.node:  # in an order in which inputs come first
        first = node.input[0] if node.input else ""
        if first in origin and node.op_type == "QuantizeLinear" and len(node.input) > 2:
            origin[node.output[0]] = (origin[first][0], kinds[node.input[2]])
        elif first in origin and node.op_type in PASSED_THROUGH:
            origin[node.output[0]] = origin[first]
        if any(part in node.op_type for part in GEMMS):
            found.update(origin[name] for name in node.input if name in origin)
    return found
