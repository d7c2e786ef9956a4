"""Rows of every runtime, deployed: what each folder needs, and whether its server answers as its model does."""

from __future__ import annotations

import re
import signal
import sys

import pytest
import yaml
from conftest import ROOT, Project, shared_project
from test_deploy import TEXTS, build, infer, serving

pytestmark = pytest.mark.slow
ROWS = {
    "ort_cpu_int8": ({"onnxruntime"}, 0.05),
    "openvino_cpu_int8_longest": ({"openvino"}, 0.05),
    "torch_cpu_fp32": ({"torch", "transformers"}, 1e-5),
    "torch_cpu_int8_longest": ({"torch", "transformers"}, 0.05),
    "torch_compile_cpu_fp32": ({"torch", "transformers"}, 1e-5),
}
"""What a row's requirements have beside what all have, and how far its scores may be from the model's."""
LIBRARIES = {"onnxruntime", "openvino", "tensorrt", "torch", "transformers"}


@pytest.fixture(scope="module")
def every(measured: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The measured project with a row of each runtime."""

    def measure(project: Project) -> None:
        own = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["variants"]
        project.set_params(lambda params: params["variants"].update({key: own[key] for key in ROWS}))
        project.repro()

    return shared_project(tmp_path_factory, "every", measure, measured)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_each_runtime_is_served_as_its_model_answers(every: Project, row: str) -> None:
    from transformers import pipeline

    build(every, row, "--stand-in", "--row", row)
    folder = every.folder / row
    needed, tolerance = ROWS[row]
    names = set(re.findall(r"^([\w.-]+?)(?:-gpu)?==", every.read(f"{row}/requirements.txt"), re.MULTILINE))
    assert names & LIBRARIES == needed
    model = str(every.folder / "artifacts/model")
    classify = pipeline("text-classification", model=model, truncation=True, max_length=32)
    wanted = [{each["label"]: each["score"] for each in classify(text, top_k=None)} for text in TEXTS]
    with serving(folder) as running:
        found = running.results(*TEXTS)
        for own, scores in zip(found, wanted, strict=True):
            assert own["scores"] == pytest.approx(scores, abs=tolerance)
        answer = running.client.post(f"/v2/models/{row}/infer", json=infer(TEXTS)).json()
        assert answer["outputs"][0]["data"] == [own["label"] for own in found]
        assert running.metric('classifier_requests_total{code="200"}') == 2
        if sys.platform != "win32":
            running.process.send_signal(signal.SIGTERM)
            assert running.ended() == (0, "")
