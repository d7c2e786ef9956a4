"""Which models can be measured, read from config.json before anything large is fetched or loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.core.errors import ModelError
from bench.core.files import shortened
from bench.core.model_inputs import Task

SUPPORTED = (
    "albert", "bart", "bert", "biogpt", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert",
    "electra", "ernie", "esm", "eurobert", "flaubert", "gpt2", "jina_embeddings_v3", "llama", "megatron-bert",
    "mobilebert", "modernbert", "mpnet", "nomic_bert", "nystromformer", "opt", "qwen2", "rembert", "roberta",
    "roberta-prelayernorm", "roc_bert", "roformer", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl",
)  # fmt: skip
"""Kinds (`model_type`) of which a tiny model went through export and the CPU's runtimes with its own logits
(tests/test_models.py, docs/models.md)."""
LARGEST_ONNX_BYTES = 2**31
"""Protocol Buffers hold at most 2 GiB, and an ONNX file is one."""
BYTES_OF_FLOAT32 = 4


def read_config(path: Path) -> dict[str, Any]:
    """Read a model's config.json; ModelError if it is missing or no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            f"the model has no {path.name}: set model.id or model.path to one that `save_pretrained` wrote"
        ) from None
    except (OSError, ValueError, RecursionError) as problem:
        raise ModelError(f"the model's {path.name} is no JSON: {shortened(str(problem))}") from None
    if not isinstance(content, dict):
        raise ModelError(f"the model's {path.name} is no JSON object")
    return content


def check_kind(config: dict[str, Any]) -> None:
    """Raise ModelError, in one sentence, if this kind of model cannot be measured."""
    kind = config.get("model_type")
    if config.get("auto_map"):
        raise ModelError(
            "the model's config.json names code of its own (auto_map), and code that comes with a model is never "
            "run: set model.id or model.path to a model of an architecture that transformers has itself"
        )
    if kind not in SUPPORTED:
        raise ModelError(
            f"the model is of the kind {shortened(repr(kind))} (model_type in its config.json), which is not "
            f"supported, allowed: {', '.join(SUPPORTED)}"
        )
    if config.get("quantization_config"):
        raise ModelError(
            "the model's weights are quantized already (quantization_config in its config.json), and every row "
            "starts from float weights: set model.id or model.path to the model that it was made of"
        )


def check_size(parameters: int) -> None:
    """Raise ModelError if the model does not fit into an ONNX file in float32."""
    size = parameters * BYTES_OF_FLOAT32
    if size >= LARGEST_ONNX_BYTES:
        raise ModelError(
            f"the model takes {size / 2**30:.2f} GiB in float32, allowed: less than {LARGEST_ONNX_BYTES / 2**30:g} "
            "GiB, the most that an ONNX file holds: set model.id or model.path to a smaller one"
        )


def task_of(config: dict[str, Any]) -> tuple[Task, int]:
    """Return what the model's logits mean, and how many labels it has, as transformers reads its configuration."""
    labels = len(config["id2label"]) if isinstance(config.get("id2label"), dict) else int(config.get("num_labels", 2))
    if config.get("problem_type") == "multi_label_classification":
        return "multi_label", labels
    if config.get("problem_type") == "regression" or labels == 1:
        return "regression", labels
    return "single_label", labels


def label_names(config: dict[str, Any]) -> dict[str, int]:
    """Return the number of each label by its name, as the model's label2id (or id2label) has it."""
    by_number = config.get("id2label") or {}
    names = {str(name): int(number) for number, name in by_number.items()}
    return names | {str(name): int(number) for name, number in (config.get("label2id") or {}).items()}
