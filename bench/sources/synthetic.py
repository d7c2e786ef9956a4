"""Make the stand-in model: the real architecture, seeded random weights, a small tokenizer."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from bench.core.params import Synthetic
from bench.sources.builtin import NAMES

MAX_POSITIONS = 512
BIAS_SPREAD = 0.1
"""Wider than transformers' default (zero): a dropped bias or mask then shows in the logits."""
WEIGHT_GAIN = 1.1
BALANCING_SENTENCES = 64
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_synthetic_model(settings: Synthetic, sentences: list[str], folder: Path) -> None:
    """Write config, safetensors and tokenizer to `folder`; the same settings give the same bytes."""
    write_tokenizer(sentences, settings.vocab_size, folder)
    model = _build_model(settings)
    _balance_labels(model, sentences[:BALANCING_SENTENCES], folder)
    model.save_pretrained(folder)


def _balance_labels(model: Any, sentences: list[str], folder: Path) -> None:
    """Shift the last bias so that both labels are about as likely, or agreement would prove nothing."""
    import torch
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)(sentences, padding=True, return_tensors="pt")
    head = model.classifier.out_proj if hasattr(model.classifier, "out_proj") else model.classifier
    with torch.inference_mode():
        logits = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits
    with torch.no_grad():  # rounded: the last bits of one machine's arithmetic do not change the model's bytes
        head.bias -= logits.median(dim=0).values.round(decimals=2)


def _build_model(settings: Synthetic) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForSequenceClassification.from_config(_config(settings))
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if name.endswith("bias"):
                parameter.normal_(0.0, BIAS_SPREAD, generator=generator)
            elif parameter.dim() == 1:
                parameter.fill_(1.0)
            else:  # 1 / sqrt(inputs) keeps the signal's size from layer to layer, whatever the width
                parameter.normal_(0.0, WEIGHT_GAIN / math.sqrt(parameter.shape[-1]), generator=generator)
    return model.eval()


def _config(settings: Synthetic) -> Any:
    from transformers import BertConfig, DistilBertConfig, RobertaConfig

    encoder, feed_forward, extra_positions = {
        "distilbert": (DistilBertConfig, "hidden_dim", 0),
        "bert": (BertConfig, "intermediate_size", 0),
        "roberta": (RobertaConfig, "intermediate_size", 1),
    }[settings.architecture]
    return encoder(
        num_hidden_layers=settings.layers,
        hidden_size=settings.dim,
        num_attention_heads=settings.fitting_heads,
        max_position_embeddings=MAX_POSITIONS + extra_positions,
        id2label=dict(enumerate(NAMES)),
        label2id={name: number for number, name in enumerate(NAMES)},
        vocab_size=settings.vocab_size,
        pad_token_id=0,
        **{feed_forward: settings.hidden_dim},
    )


def write_tokenizer(sentences: list[str], vocab_size: int, folder: Path) -> None:
    """Write a lower-casing WordPiece tokenizer whose words are the sentences' most frequent ones."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = {token: number for number, token in enumerate(_choose_tokens(sentences, vocab_size))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": MAX_POSITIONS, **roles}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8", newline="\n")


def _choose_tokens(sentences: list[str], vocab_size: int) -> list[str]:
    """Return special tokens, characters (also as continuations), then words by frequency: a trainer's choice varies."""
    from tokenizers import pre_tokenizers

    splitter = pre_tokenizers.BertPreTokenizer()
    words = Counter(word for text in sentences for word, _ in splitter.pre_tokenize_str(text.lower()))
    characters = sorted({character for word in words for character in word})
    by_frequency = sorted(words, key=lambda word: (-words[word], word))
    continuations = (f"##{character}" for character in characters)
    return list(dict.fromkeys([*SPECIAL_TOKENS, *characters, *continuations, *by_frequency]))[:vocab_size]
