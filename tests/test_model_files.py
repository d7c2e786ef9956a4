"""A model's files of other shapes: each runs to the right figure, or is refused in one sentence that helps."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project
from hub_server import COMMIT, Hub, self_signed, serving
from test_own_models import MODEL, WEIGHTS, edit, end_of, table, use
from tiny_models import write_tiny_model

from bench.classifier.model import check_tokens, load_classifier
from bench.core.errors import ModelError
from bench.core.paths import EVALUATION
from bench.core.pretrained import load_tokenizer
from bench.core.schemas import Labelled, read_sentences

CONFIG, SETTINGS, TOKENIZER = "config.json", "tokenizer_config.json", "tokenizer.json"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Tiny models by kind, each made once."""
    folder = tmp_path_factory.mktemp("kinds")

    def write(kind: str) -> Path:
        if not (folder / kind).exists():
            write_tiny_model(kind, folder / kind, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
        return folder / kind

    return write


@pytest.fixture
def model_of(written: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copies of them, to be changed."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(written(kind), tmp_path / f"own-{kind}"))

    return copy


@pytest.fixture
def own(model_of: Callable[[str], Path]) -> Path:
    return model_of("bert")


def prepared(project: Project, own: Path) -> Any:
    """Run the first two stages with a table of labels by name; return what was tokenized, and the logits."""
    use(project, own, table(project.folder.parent))
    end_of(project, code=0)
    end_of(project, "prepare_inputs", code=0)
    return np.load(project.folder / EVALUATION)


def refusal(project: Project, own: Path, stage: str = "download") -> str:
    use(project, own, table(project.folder.parent))
    if stage != "download":
        end_of(project, code=0)
    output = end_of(project, stage)
    assert len(output.strip().splitlines()) == 1
    return output


SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "a list": ({"id2label": ["bad", "good"]}, """id2label: got ['bad', 'good'], allowed: the names"""),
    "turned round": ({"id2label": {"bad": 0, "good": 1}}, """as {"0": "bad", "1": "good"}"""),
    "numbers with a gap": ({"id2label": {"1": "bad", "2": "good"}}, "id2label: got {'1': 'bad'"),
    "numbers of another kind": ({"id2label": {"0.0": "bad", "1.0": "good"}}, "id2label: got {'0.0'"),
    "names that are none": ({"id2label": {"0": None, "1": None}}, "id2label: got"),
    "label2id as a list": (
        {"label2id": ["bad", "good"]},
        "Field 'label2id' with value ['bad', 'good'] doesn't match any type in (dict[str, int]",
    ),
    "label2id of floats": ({"label2id": {"bad": 0.0, "good": 1.0}}, "Field 'label2id' with value {'bad': 0.0"),
    "no labels": ({"id2label": {}}, "id2label: got {}"),
    "labels as a text": ({"id2label": None, "num_labels": "2"}, "num_labels: got '2', allowed: a whole number"),
    "label2id of more": (
        {"id2label": None, "label2id": {"bad": 0, "good": 1, "so": 2}},
        """id2label: got None, allowed: the names of label2id by their numbers, {"0": "bad", "1": "good", "2": "so"}""",
    ),
    "an unknown task": ({"problem_type": "Regression"}, "Field 'problem_type' with value 'Regression'"),
    "a size as a text": ({"hidden_size": "32"}, "'hidden_size' expected int, got str"),
    "pad beyond": ({"pad_token_id": 9999}, "pad_token_id: got 9999, allowed: the number of its tokenizer's, below"),
    "pad as a text": ({"pad_token_id": "0"}, "Field 'pad_token_id' with value '0'"),
    "weights elsewhere": ({"transformers_weights": "b.safetensors"}, "(transformers_weights: b.safetensors)"),
    "other versions": ({"configuration_files": ["config.4.0.0.json"]}, "(configuration_files: ['config.4.0.0.json'])"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_config_of_another_shape_is_refused_by_key_and_value(name: str, project: Project, own: Path) -> None:
    changes, message = SHAPES[name]
    edit(own / CONFIG, **changes)
    output = refusal(project, own)
    assert "config.json" in output
    assert message in output


def test_the_shape_that_a_refusal_shows_runs(project: Project, own: Path) -> None:
    edit(own / CONFIG, id2label=["bad", "good"])
    shown = refusal(project, own).split(", as ")[1].split(" (")[0]
    edit(own / CONFIG, id2label=json.loads(shown))
    assert sorted(prepared(project, own)["labels"]) == sorted(wanted_labels(project))
    assert [row.label for row in rows(project)] == wanted_labels(project)


TAKEN: dict[str, dict[str, Any]] = {
    "tuples asked for": {"return_dict": False},
    "attention of a library": {"attn_implementation": "flash_attention_2"},
    "names for numbers": {"label2id": {"0": "bad", "1": "good"}},
    "numbers as texts": {"label2id": {"bad": "0", "good": "1"}},
    "no label2id": {"label2id": None},
    "label2id alone": {"id2label": None},
    "pad that is not used": {"pad_token_id": None},
    "no code": {"auto_map": {}},
    "numbers with zeros": {"id2label": {"00": "bad", "01": "good"}},
    "tuples": {"return_dict": False},
    "everything": {"output_attentions": True, "output_hidden_states": True, "torchscript": True},
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_config_that_transformers_reads_runs_with_the_right_labels(name: str, project: Project, own: Path) -> None:
    edit(own / CONFIG, **TAKEN[name])
    assert sorted(prepared(project, own)["labels"]) == sorted(wanted_labels(project))
    assert [row.label for row in rows(project)] == wanted_labels(project)


def wanted_labels(project: Project) -> list[int]:
    return [int(text.startswith("a fine")) for text in texts(project)]


def texts(project: Project) -> list[str]:
    return [row.sentence for row in rows(project)]


def rows(project: Project) -> list[Labelled]:
    [path] = (project.folder / "artifacts/sentences").glob("evaluation.*")
    return read_sentences(path)


def add_pad(own: Path) -> None:
    """Give the tokenizer a pad token beyond the embeddings, as `add_special_tokens` does."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokens = len(AutoTokenizer.from_pretrained(own))
    model = AutoModelForSequenceClassification.from_pretrained(own)
    model.resize_token_embeddings(tokens)
    model.save_pretrained(own)
    edit(own / SETTINGS, pad_token="[NEWPAD]")


def test_a_token_without_an_embedding_is_named_and_runs_after_a_resize(project: Project, own: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    add_pad(own)
    assert "the tokenizer's token '[NEWPAD]' has the number" in refusal(project, own, "prepare_inputs")
    model = AutoModelForSequenceClassification.from_pretrained(own)
    model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(own)))
    model.save_pretrained(own)
    assert len(prepared(project, own)["labels"]) == 16


def test_a_token_without_an_embedding_runs_with_another_pad_token(project: Project, own: Path) -> None:
    add_pad(own)
    edit(own / SETTINGS, pad_token="[PAD]")
    assert len(prepared(project, own)["labels"]) == 16


@pytest.mark.parametrize("kind", ["xlm-roberta", "gpt2"])
@pytest.mark.parametrize("pad", [None, 3])
def test_another_pad_than_the_tokenizers_is_refused_where_it_changes_the_logits(
    kind: str, pad: int | None, project: Project, model_of: Callable[[str], Path]
) -> None:
    own = model_of(kind)
    edit(own / CONFIG, pad_token_id=pad)
    if (kind, pad) == ("xlm-roberta", 3):  # counts positions from it, with padding and without
        assert len(prepared(project, own)["labels"]) == 16
        return
    assert f"pad_token_id: got {pad}, wanted: 0 ('[PAD]')" in refusal(project, own, "prepare_inputs")
    edit(own / CONFIG, pad_token_id=0)
    assert len(prepared(project, own)["labels"]) == 16


@pytest.mark.parametrize("kind", ["gpt2", "distilbert"])
def test_token_types_of_0_are_given_to_a_model_that_adds_them(
    kind: str, project: Project, model_of: Callable[[str], Path]
) -> None:
    own = model_of(kind)
    edit(own / SETTINGS, model_input_names=["input_ids", "attention_mask", "token_type_ids"])
    assert ("token_type_ids" in prepared(project, own)) == (kind == "gpt2")


def test_an_input_that_no_row_would_be_given_is_refused(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertForSequenceClassification

    forward = BertForSequenceClassification.forward

    def takes_positions(model: Any, input_ids: Any, attention_mask: Any = None, labels: Any = None, **more: Any) -> Any:
        return forward(model, input_ids, attention_mask, labels=labels, **more)

    monkeypatch.setattr(BertForSequenceClassification, "forward", takes_positions)
    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.__call__", lambda _self, _text, **_more: {"labels": []})
    with pytest.raises(ModelError, match="takes labels from its tokenizer"):
        check_tokens(load_classifier(own), load_tokenizer(own))


FUTURE = {"type": "FromTheFuture"}


@pytest.mark.parametrize("part", ["pre_tokenizer", "normalizer", "post_processor", "model"])
def test_a_tokenizer_of_a_newer_library_is_one_sentence_and_the_old_one_runs(
    part: str, project: Project, own: Path
) -> None:
    before = (own / TOKENIZER).read_bytes()
    edit(own / TOKENIZER, **{part: FUTURE})
    assert "tokenizer.json cannot be read by tokenizers " in refusal(project, own)
    (own / TOKENIZER).write_bytes(before)
    prepared(project, own)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, TOKENIZER])
def test_a_pointer_of_git_lfs_is_named_before_anything_is_read(name: str, project: Project, own: Path) -> None:
    (own / name).write_text(POINTER)
    assert f"{name} is a pointer of git-lfs, not the file: run `git lfs pull` there" in refusal(project, own)


@pytest.mark.parametrize("name", ["reviews.csv", "reviews.parquet"])
def test_a_table_that_is_a_pointer_of_git_lfs_is_named(name: str, project: Project, own: Path) -> None:
    (own.parent / name).write_text(POINTER)
    use(project, own, own.parent / name)
    assert (
        f"error: params.yaml: dataset: {name} is a pointer of git-lfs"
        in project.script("stages/download.py", code=1).stderr
    )


@pytest.mark.parametrize("has_whole_model", [True, False])
def test_an_adapter_beside_the_model_is_never_left_out_in_silence(
    has_whole_model: bool, project: Project, own: Path
) -> None:
    (own / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "a/b"}))
    if not has_whole_model:
        (own / WEIGHTS).rename(own / "adapter_model.safetensors")
    assert "merge_and_unload()" in refusal(project, own)
    if has_whole_model:
        (own / "adapter_config.json").unlink()
        prepared(project, own)


def test_a_tokenizer_that_names_other_files_is_refused(project: Project, own: Path) -> None:
    edit(own / SETTINGS, fast_tokenizer_files=["tokenizer.json", "tokenizer.4.0.0.json"])
    assert "(fast_tokenizer_files: ['tokenizer.json', 'tokenizer.4.0.0.json'])" in refusal(project, own)


PIECES = {
    "albert": ("spiece.model", 0),
    "camembert": ("sentencepiece.bpe.model", 4),
    "deberta-v2": ("spm.model", 0),
    "xlm-roberta": ("sentencepiece.bpe.model", 1),
}
"""The file that a kind's SentencePiece model has, and by how much its ids are shifted."""


def with_pieces(own: Path, file: str, **settings: Any) -> Any:
    """Put a SentencePiece model in place of the tokenizer, and return its processor."""
    import sentencepiece

    for name in (TOKENIZER, SETTINGS):
        (own / name).unlink()
    sentences = [f"a {word} film about number {number}" for number in range(40) for word in ("fine", "dull")]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=str(own / "made"),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        **settings,
    )
    (own / "made.vocab").unlink()
    (own / "made.model").rename(own / file)
    return sentencepiece.SentencePieceProcessor(model_file=str(own / file))


@pytest.mark.parametrize("kind", PIECES)
def test_a_sentencepiece_model_without_a_tokenizer_json_gives_its_own_ids(
    kind: str, project: Project, model_of: Callable[[str], Path]
) -> None:
    own, (file, shift) = model_of(kind), PIECES[kind]
    names = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "bos_piece": "[CLS]", "eos_piece": "[SEP]"}
    names |= {"unk_piece": "[UNK]", "pad_piece": "[PAD]"} if kind == "deberta-v2" else {}
    pieces = with_pieces(own, file, **names if shift == 0 else {})
    edit(own / CONFIG, pad_token_id=0 if shift == 0 else 1)
    tokens = prepared(project, own)
    given = zip(tokens["input_ids"], tokens["attention_mask"], strict=True)
    found = [[int(number) - shift for number in ids[mask == 1][1:-1]] for ids, mask in given]
    assert sorted(found) == sorted(map(pieces.encode, texts(project)))


@pytest.mark.parametrize("content", [b"", b"no pieces"])
def test_a_damaged_sentencepiece_model_is_named(
    content: bytes, project: Project, model_of: Callable[[str], Path]
) -> None:
    own = model_of("albert")
    with_pieces(own, "spiece.model", pad_id=0, unk_id=1, bos_id=2, eos_id=3, bos_piece="[CLS]", eos_piece="[SEP]")
    (own / "spiece.model").write_bytes(content)
    assert "the model's spiece.model is no SentencePiece model, or damaged" in refusal(project, own)


def test_a_sentencepiece_model_that_transformers_would_misread_is_refused_before_the_weights(
    project: Project, model_of: Callable[[str], Path]
) -> None:
    own = model_of("rembert")
    with_pieces(own, "sentencepiece.model")
    (own / WEIGHTS).write_bytes(b"never read")
    assert 'AutoTokenizer.from_pretrained("FOLDER").save_pretrained("FOLDER")' in refusal(project, own)


@pytest.fixture
def hub(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub({MODEL: own})) as served:
        served.reach(tmp_path / "hub-home", monkeypatch)
        yield served


def from_hub(project: Project, code: int, model_id: str = MODEL, source: str = "auto") -> str:
    hub_model = {"id": model_id, "revision": COMMIT, "source": source, "hub_timeout_seconds": 60}
    project.set_params(lambda params: params["model"].update(hub_model))
    return end_of(project, code=code)


REFUSALS = {401: "HF_TOKEN", 403: "HF_TOKEN", 429: "wait some minutes, or set HF_TOKEN", 451: "legal reasons"}


@pytest.mark.parametrize(
    ("status", "asked"), [*((status, MODEL) for status in REFUSALS), (401, CONFIG), (429, CONFIG), (403, WEIGHTS)]
)
def test_a_refusal_of_the_hub_says_what_to_do_and_brings_no_stand_in(
    status: int, asked: str, project: Project, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.refusals[asked] = (status, "")
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)  # between its client's tries
    output = from_hub(project, code=1)
    assert REFUSALS[status] in output
    assert "synthetic" not in output
    assert len(hub.requests) < 20


@pytest.mark.parametrize("status", [408, 425, 500, 502, 503, 504])
def test_a_hub_that_answers_with_a_fault_of_its_own_brings_no_stand_in(status: int, project: Project, hub: Hub) -> None:
    hub.refusals[MODEL] = (status, "")
    assert f"answers {status}: a fault of its own: run it again later, or set model.source to synthetic" in from_hub(
        project, code=1
    )
    project.set_params(lambda params: params["model"].update(source="synthetic"))
    assert "with random weights" in end_of(project, code=0)


ADDRESSES: dict[str, Callable[[str], str]] = {
    "no scheme": lambda address: address.removeprefix("http://"),
    "no port": lambda address: f"{address}:port",
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_an_address_that_is_none_is_named_with_its_variable(
    name: str, project: Project, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, hub.address = hub.address, ADDRESSES[name](hub.address)
    hub.reach(tmp_path / "hub-home", monkeypatch)
    assert f"HF_ENDPOINT: got '{hub.address}'" in from_hub(project, code=1)
    hub.address = right
    hub.reach(tmp_path / "hub-home", monkeypatch)
    from_hub(project, code=0)


def test_a_hub_without_tls_brings_no_stand_in(
    project: Project, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.address = hub.address.replace("http:", "https:")
    hub.reach(tmp_path / "hub-home", monkeypatch)
    assert "check HF_ENDPOINT" in from_hub(project, code=1)


SURROUNDINGS = {
    "certificates that are not there": ({"SSL_CERT_FILE": "nowhere.pem"}, "SSL_CERT_FILE: got 'nowhere.pem' (No such"),
    "certificates that are none": ({"SSL_CERT_FILE": "params.yaml"}, "SSL_CERT_FILE: got 'params.yaml' ([X509"),
    "a proxy of another kind": (
        {"HTTP_PROXY": "socks5://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""},
        "correct HTTPS_PROXY",
    ),
    "a token of other letters": ({"HF_TOKEN": "hf_…"}, "HF_TOKEN holds letters"),
}


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_a_variable_that_the_client_cannot_use_is_named(name: str, project: Project) -> None:
    variables, message = SURROUNDINGS[name]
    before = dict(project.environment)
    project.environment |= variables
    with fresh_client():
        assert message in from_hub(project, code=1)
        project.environment = before
    with fresh_client():
        from_hub(project, code=0)


def test_a_login_page_in_place_of_the_hub_brings_no_stand_in(project: Project, hub: Hub) -> None:
    hub.page = b"<html>Sign in</html>"
    assert "what answers is no hub: check HF_ENDPOINT" in from_hub(project, code=1)


def test_an_untrusted_certificate_names_the_variable_that_helps(
    project: Project, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path / "proxy.pem")
    with serving(Hub({MODEL: own}), certificate) as hub:
        hub.reach(tmp_path / "hub-home", monkeypatch)
        output = from_hub(project, code=1)
        assert "set SSL_CERT_FILE to a file" in output
        assert "synthetic" not in output
        project.environment |= {"SSL_CERT_FILE": str(certificate)}
        with fresh_client():
            assert "stands for" not in from_hub(project, code=0)


@pytest.mark.parametrize("made_for", [("127.0.0.1", -1, "clock"), ("127.0.0.9", 1, "HF_ENDPOINT")])
def test_a_certificate_that_no_trust_would_mend_says_so(
    made_for: tuple[str, int, str], project: Project, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, days, advice = made_for
    certificate = self_signed(own.parent / "proxy.pem", address, days)
    project.environment |= {"SSL_CERT_FILE": str(certificate)}
    with serving(Hub({MODEL: own}), certificate) as hub, fresh_client():
        hub.reach(own.parent / "hub-home", monkeypatch)
        output = from_hub(project, code=1)
    assert advice in output
    assert "SSL_CERT_FILE" not in output


@contextmanager
def fresh_client() -> Iterator[None]:
    """Let the hub's client read the environment anew, as a new process does."""
    from huggingface_hub import close_session

    close_session()
    yield
    close_session()


def test_an_id_that_is_a_folder_names_the_key_for_folders(project: Project, own: Path) -> None:
    assert "model.path" in from_hub(project, 1, str(own))
    assert "model.path" in from_hub(project, 1, "../nowhere/at-all")
    assert "allowed: OWNER/NAME" in from_hub(project, 1, f"https://huggingface.co/{MODEL}")
    (project.folder / "someone").mkdir()
    shutil.copytree(own, project.folder / "someone/own")
    assert "set model.path to it" in from_hub(project, 1, "someone/own")
    use(project, own)
    end_of(project, code=0)


@pytest.mark.parametrize("written_as", ["7142e07", "7142007", "2024-01-01", "1.0", "true"])
def test_a_revision_that_yaml_reads_as_another_value_belongs_in_quotes(written_as: str, project: Project) -> None:
    path = project.folder / "params.yaml"
    text = re.sub(r"revision: .*", f"revision: {written_as}", path.read_text(encoding="utf-8"), count=1)
    path.write_text(text, encoding="utf-8")
    ended = project.script("bench/runtimes/base/check_params.py", code=1)
    assert "model.revision: got" in ended.stderr
    assert "put it in quotes" in ended.stderr
    path.write_text(text.replace(f"revision: {written_as}", f'revision: "{written_as}"', 1), encoding="utf-8")
    project.script("bench/runtimes/base/check_params.py")
