"""A tiny model of any kind, with seeded random weights, in a folder as `save_pretrained` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.sources.builtin import builtin_sentences
from bench.sources.synthetic import write_tokenizer

VOCABULARY = 400
POSITIONS = 64
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
    "num_labels": 3,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
OF_BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
RELATIVE: dict[str, Any] = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "type_vocab_size": 0,
    "max_relative_positions": -1,
    "position_biased_input": False,
}
OWN: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "bart": OF_BART,
    "convbert": {"embedding_size": 32, "conv_kernel_size": 3},
    "deberta": RELATIVE,
    "deberta-v2": RELATIVE | {"position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True},
    "distilbert": {"hidden_dim": 64},
    "electra": {"embedding_size": 32},
    "esm": {"mask_token_id": 4, "position_embedding_type": "absolute"},
    "eurobert": {"num_key_value_heads": 2, "mask_token_id": 4},
    "llama": {"num_key_value_heads": 2},
    "mobilebert": {
        "hidden_size": 64,
        "intra_bottleneck_size": 32,
        "embedding_size": 32,
        "true_hidden_size": 32,
        "num_feedforward_networks": 2,
    },
    "modernbert": {"local_attention": 8, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "qwen2": {"num_key_value_heads": 2},
    "rembert": {"input_embedding_size": 32, "output_embedding_size": 32},
    "squeezebert": {"embedding_size": 32}
    | {f"{name}_groups": 1 for name in ("q", "k", "v", "post_attention", "intermediate", "output")},
}


def tiny_config(kind: str, **more: Any) -> Any:
    """Return the configuration of a tiny model; sizes that the kind does not have are left out."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    made = CONFIG_MAPPING[kind]
    settings = SIZES | OWN.get(kind, {}) | more
    if "id2label" in more:
        del settings["num_labels"]
    while True:
        try:
            return made(**settings)
        except TypeError as problem:
            unknown = [name for name in settings if f"'{name}'" in str(problem)]
            if not unknown:
                raise
            settings = {name: value for name, value in settings.items() if name not in unknown}


def write_tiny_model(kind: str, folder: Path, padding_side: str = "right", **more: Any) -> Any:
    """Write the model and its tokenizer to `folder` and return the model, in evaluation mode.

    Biases are spread wide, so that a mask, a bias or a position that is dropped shows in the logits.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer([row.sentence for part in builtin_sentences() for row in part], VOCABULARY, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding_side": padding_side}), encoding="utf-8")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(tiny_config(kind, **more)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.1, generator=generator)
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, 1.1 / parameter.shape[-1] ** 0.5, generator=generator)
    model.save_pretrained(folder)
    return model
