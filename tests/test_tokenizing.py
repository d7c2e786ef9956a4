"""Requests that bring text: the same tokens, and the same answers, as a plain transformers pipeline gives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_models import LENGTH
from tiny_models import VOCABULARY, write_tiny_model
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from bench.core.errors import DataError, ModelError
from bench.core.model_inputs import Padding
from bench.core.pretrained import load_tokenizer
from bench.core.schemas import Labelled
from bench.inputs.encoded import encode
from bench.inputs.texts import TextEncoder, open_encoder, save_fast_tokenizer, save_texts
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import SessionSpec
from bench.serving.batcher import Batcher, Requests
from bench.serving.instances import serve
from bench.serving.tokenizing import MOST_TEXTS, TextRequests, Tokenized, Tokenizing, times
from bench.sources.builtin import builtin_sentences

SENTENCES = [row.sentence for row in builtin_sentences()[0]]
HARD = [
    "fine .",
    "",
    "a film 🎬 to love 👩‍👩‍👧 !",
    "فيلم رائع جدا",
    "a nul \x00 within",
    "ünïcödé — “quoted”, naïve façade",
    " ".join(SENTENCES[:8]),
    *SENTENCES[:3],
]
PAIRS = [*zip(HARD, filter(None, HARD[::-1]), strict=False), (" ".join(SENTENCES[:4]), " ".join(SENTENCES[4:8]))]
"""Of an empty second sentence a pipeline makes no pair."""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


@dataclass(frozen=True)
class Asked:
    """A request as LoadGen sends it."""

    id: int
    index: int


def write_trained(folder: Path, kind: str) -> None:
    """Put a tokenizer of another kind, trained on the sentences, into a model's folder."""
    model, trainer = {
        "bpe": (models.BPE(), trainers.BpeTrainer),
        "unigram": (models.Unigram(), trainers.UnigramTrainer),
    }[kind]
    tokenizer = Tokenizer(model)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel() if kind == "bpe" else pre_tokenizers.Metaspace()
    given = {"initial_alphabet": alphabet} if kind == "bpe" else {"unk_token": "[UNK]"}
    tokenizer.train_from_iterator(SENTENCES, trainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, **given))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    tokenizer.save(str(folder / "tokenizer.json"))


def made_encoder(folder: Path, labelled: list[Labelled]) -> TextEncoder:
    """Return what makes tokens of sentences as serving does, and as transformers would."""
    tokenizer = load_tokenizer(folder)
    encoded = encode(tokenizer, labelled, LENGTH)
    save_texts(folder / "texts.json", labelled)
    save_fast_tokenizer(folder / "fast.json", tokenizer, folder / "texts.json", encoded)
    return open_encoder(folder / "fast.json", folder / "texts.json", encoded)


def answers(folder: Path, encoder: TextEncoder, padding: Padding, max_batch: int = 3) -> Any:
    """Send every sentence as text through tokenizer, batcher and row; return the logits in the sentences' order."""
    spec = SessionSpec("cpu", "fp32", folder, {}, [1, max_batch], LENGTH, cpu_threads=1, padding=padding)
    session = import_runtime("pytorch").open_session(spec)
    batcher: Batcher[Tokenized] = Batcher(max_batch)
    requests = TextRequests(encoder, padding, 8, [])
    tokenizing = Tokenizing(requests.tokens_of, batcher)
    count = len(encoder.texts)
    tokenizing.put([Asked(count - index, index) for index in reversed(range(count))])
    tokenizing.close()
    answered: list[int] = []
    served = serve(session, requests, batcher, lambda taken: answered.extend(each.id for each in taken))
    tokenizing.end()
    assert sorted(answered) == list(range(1, count + 1))
    indices = np.concatenate([batch.indices for batch in served.batches])
    return np.concatenate(served.logits)[np.argsort(indices)]


def scores_of_pipeline(folder: Path, texts: list[Any]) -> Any:
    """Return each label's probability of each sentence, or pair, as transformers' own pipeline gives it."""
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(folder), device="cpu", truncation=True, max_length=LENGTH)
    found = (classify(text, top_k=None) for text in texts)
    return np.array([[each["score"] for each in sorted(scores, key=itemgetter("label"))] for scores in found])


def probabilities(logits: Any) -> Any:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("tokenizer", ["wordpiece", "bpe", "unigram"])
@pytest.mark.parametrize("padding", ["fixed", "longest"])
def test_text_gets_the_label_that_a_plain_pipeline_gives(tokenizer: str, padding: Padding, tmp_path: Path) -> None:
    write_tiny_model("bert", tmp_path)
    if tokenizer != "wordpiece":
        write_trained(tmp_path, tokenizer)
    encoder = made_encoder(tmp_path, [Labelled(text, 0) for text in HARD])
    ours, wanted = probabilities(answers(tmp_path, encoder, padding)), scores_of_pipeline(tmp_path, HARD)
    assert (ours.argmax(axis=1) == wanted.argmax(axis=1)).all()
    assert ours == pytest.approx(wanted, abs=1e-5)
    assert len(np.unique(wanted[:, 0].round(4))) > 5, "sentences are told apart"


@pytest.mark.parametrize("tokenizer", ["wordpiece", "bpe"])
def test_a_pair_gets_the_label_that_a_plain_pipeline_gives(tokenizer: str, tmp_path: Path) -> None:
    write_tiny_model("bert", tmp_path)
    if tokenizer != "wordpiece":
        write_trained(tmp_path, tokenizer)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["model_input_names"] = ["input_ids", "attention_mask", "token_type_ids"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    encoder = made_encoder(tmp_path, [Labelled(first, 0, second) for first, second in PAIRS])
    assert encoder.like.has_types
    wanted = scores_of_pipeline(tmp_path, [{"text": first, "text_pair": second} for first, second in PAIRS])
    assert probabilities(answers(tmp_path, encoder, "longest")) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("padding", ["fixed", "longest", "none"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_batch_of_text_is_laid_out_as_one_of_tokens(padding: Padding, side: str, tmp_path: Path) -> None:
    write_tiny_model("bert", tmp_path, side)
    encoder = made_encoder(tmp_path, [Labelled(text, 0) for text in HARD])
    of_tokens, of_text = (
        Requests(encoder.like, padding, 8, [4, 16]),
        TextRequests(encoder, padding, 8, [4, 16]),
    )
    for sentences in ([0], [1, 2, 3, 4], [6, 6, 0, 1, 5], list(range(len(HARD)))):
        tokens = encoder.tokens(sentences)
        requests = [Tokenized(index, index, own) for index, own in zip(sentences, tokens, strict=True)]
        wanted, found = of_tokens.of(requests), of_text.of(requests)
        assert (found.indices == wanted.indices).all()
        for ours, theirs in zip(found.inputs.arrays, wanted.inputs.arrays, strict=True):
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs)


class Counting:
    """An encoder that notes how many texts each call gets."""

    def __init__(self, encoder: TextEncoder, fault: Exception | None = None) -> None:
        self.encoder, self.like, self.fault, self.calls = encoder, encoder.like, fault, list[int]()

    def tokens(self, sentences: list[int]) -> Any:
        self.calls.append(len(sentences))
        if self.fault:
            raise self.fault
        return self.encoder.tokens(sentences)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder = tmp_path_factory.mktemp("bert")
    write_tiny_model("bert", folder)
    return made_encoder(folder, [Labelled(text, 0) for text in HARD])


def test_no_call_takes_more_texts_than_the_limit(encoder: TextEncoder) -> None:
    counting: Any = Counting(encoder)
    count = 2 * MOST_TEXTS + 22
    batcher: Batcher[Tokenized] = Batcher(count)
    tokenizing = Tokenizing(TextRequests(counting, "longest", 8, []).tokens_of, batcher)
    tokenizing.put([Asked(number, number % len(HARD)) for number in range(count)])
    tokenizing.close()
    tokenizing.end()
    taken = sorted(batcher.take(), key=lambda each: each.id)
    assert [each.id for each in taken] == list(range(count))
    assert [each.index for each in taken] == [number % len(HARD) for number in range(count)]
    assert [each.tokens for each in taken] == [encoder.tokens([each.index])[0] for each in taken]
    assert sorted(counting.calls) == [22, MOST_TEXTS, MOST_TEXTS]
    assert batcher.take() == []


def test_a_tokenizer_that_fails_under_load_ends_the_load_and_says_why(encoder: TextEncoder) -> None:
    counting: Any = Counting(encoder, OSError("broken"))
    batcher: Batcher[Tokenized] = Batcher(4)
    tokenizing = Tokenizing(TextRequests(counting, "longest", 8, []).tokens_of, batcher)
    tokenizing.put([Asked(0, 0)])
    assert batcher.take() == []
    with pytest.raises(OSError, match="broken"):
        tokenizing.end()


def test_times_are_of_each_size_in_one_thread_and_in_all(encoder: TextEncoder) -> None:
    found = times(encoder, [1, 4], threads=2)
    assert [each.batch_size for each in found] == [1, 4]
    assert all(each.ms > 0 and each.one_thread_ms > 0 for each in found)
    assert found[0].ms == found[0].one_thread_ms


def test_a_tokenizer_without_a_fast_form_says_so(encoder: TextEncoder, tmp_path: Path) -> None:
    class PythonTokenizer:
        is_fast = False

    save_fast_tokenizer(tmp_path / "fast.json", PythonTokenizer(), tmp_path / "texts.json", encoder.like)
    with pytest.raises(ModelError, match="the model's tokenizer has no fast form: PythonTokenizer is Python code"):
        open_encoder(tmp_path / "fast.json", tmp_path / "texts.json", encoder.like)


def test_a_fast_form_that_makes_other_tokens_is_not_used(tmp_path: Path) -> None:
    write_tiny_model("bert", tmp_path)
    rows = [Labelled(text, 0) for text in HARD]
    tokenizer = load_tokenizer(tmp_path)
    encoded = encode(tokenizer, rows, LENGTH)
    save_texts(tmp_path / "texts.json", [rows[1], rows[0], *rows[2:]])
    save_fast_tokenizer(tmp_path / "fast.json", tokenizer, tmp_path / "texts.json", encoded)
    with pytest.raises(ModelError, match="the fast form of the model's tokenizer makes other tokens of ''"):
        open_encoder(tmp_path / "fast.json", tmp_path / "texts.json", encoded)


@pytest.mark.parametrize("name", ["fast.json", "texts.json"])
@pytest.mark.parametrize("content", ["{", "{}", '{"texts": [1]}', '{"texts": []}'])
def test_damaged_files_are_named_with_what_renews_them(name: str, content: str, tmp_path: Path) -> None:
    write_tiny_model("bert", tmp_path)
    like = made_encoder(tmp_path, [Labelled("fine .", 0)]).like
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"{name} is damaged .*`dvc repro -f prepare_inputs` renews it"):
        open_encoder(tmp_path / "fast.json", tmp_path / "texts.json", like)
