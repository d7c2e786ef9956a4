"""Make a transformers classifier take packed sentences (varlen), so that nothing of a batch is padding.

The model sees one long row of tokens.  Three things keep its sentences apart: attention is told where each begins,
positions restart there, and behind the last layer the first token of each is taken, so that the head finds the same as
in a padded batch.  Nothing is known about architectures: whether a model is right this way is tried.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from bench.core.files import first_line, shortened
from bench.runtimes.base.session import Unavailable

LAST_LAYERS = ("transformer", "encoder")
"""Names of the stack of layers within a model, behind which some architectures pool."""
PROJECTIONS = (("q_lin", "k_lin", "v_lin"), ("query", "key", "value"), ("q_proj", "k_proj", "v_proj"))
"""Names of the three GEMMs that attention begins with."""
CLOSE = 0.02
"""Difference of a logit by which half precision may differ from itself; a wrong mask or position is far beyond."""
numbers = itertools.count()


class PackedClassifier:
    """A classifier for packed sentences; Unavailable, with the reason, if it does not take them."""

    def __init__(self, model: Any, longest: int, attend: Callable[..., Any]) -> None:
        """`attend`: attention with the signature of PyTorch's `varlen_attn`; `longest`: the most tokens a sentence."""
        self.model = model
        self.longest = longest
        parameters = inspect.signature(model.forward).parameters
        self.has_types = "token_type_ids" in parameters and bool(getattr(model.config, "type_vocab_size", 0))
        self.offset = 0
        self._attend = attend
        self._settle("position_ids" in parameters)

    def logits(
        self, ids: torch.Tensor, positions: torch.Tensor, types: torch.Tensor, starts: torch.Tensor, first: torch.Tensor
    ) -> torch.Tensor:
        """Return logits `[sentences, labels]`, float32, of the sentences whose first tokens lie at `first`.

        `ids`, `positions`, `types`: int32 `[1, tokens]`; `starts`, int32: where each sentence begins, and behind them
        where the last one ends.
        """
        self._starts, self._first = starts, first
        named = {"input_ids": ids, "position_ids": positions} | ({"token_type_ids": types} if self.has_types else {})
        logits: torch.Tensor = self.model(**named).logits
        return logits.float().reshape(first.shape[0], -1)

    def _settle(self, takes_positions: bool) -> None:
        kind = self.model.config.model_type
        if not takes_positions:
            raise Unavailable(f"this {kind} model does not take packed sentences: it is told no positions")
        with torch.inference_mode():
            sentences = list(_tried_sentences(self.model, self.longest))
            required = torch.cat([self.model(input_ids=each).logits.float() for each in sentences])
            name = f"packed_{next(numbers)}"
            AttentionInterface.register(name, self._attention)
            AttentionMaskInterface.register(name, lambda *_given, **_named: None)
            self.model.set_attn_implementation(name)
            if self.model.config._attn_implementation != name:
                raise Unavailable(f"this {kind} model's attention cannot be replaced")
            reason = ""
            for place, offset in itertools.product(_places(self.model), (0, (self.model.config.pad_token_id or 0) + 1)):
                handle = place.register_forward_hook(self._take_first)
                self.offset = offset
                try:
                    found = self.logits(*_row_of(sentences, offset))
                    if found.shape == required.shape and torch.allclose(found, required, rtol=CLOSE, atol=CLOSE):
                        return
                    reason = reason or "its logits are others then"
                except Exception as problem:  # whatever an architecture's own code raises on a row
                    reason = f"{type(problem).__name__}: {shortened(first_line(problem))}"
                handle.remove()
        raise Unavailable(f"this {kind} model does not take packed sentences: {reason}")

    def _attention(
        self, _module: Any, *given: Any, scaling: float | None = None, **_more: Any
    ) -> tuple[torch.Tensor, None]:
        """Take queries, keys and values `[1, heads, tokens, size]` and return `[1, tokens, heads, size]`."""
        q, k, v = (each[0].transpose(0, 1) for each in given[:3])
        if scaling is not None and abs(scaling * q.shape[-1] ** 0.5 - 1) > 1e-6:
            raise NotImplementedError(f"attention scaled by {scaling}")
        return self._attend(q, k, v, self._starts, self._starts, self.longest, self.longest).unsqueeze(0), None

    def _take_first(self, _module: Any, _inputs: Any, output: Any) -> Any:
        """Leave of `[1, tokens, width]` the first token of each sentence, `[sentences, 1, width]`."""
        first = output[0][0][self._first].unsqueeze(1)
        return (first, *output[1:]) if isinstance(output, tuple) else type(output)(last_hidden_state=first)


def _places(model: Any) -> Iterator[Any]:
    """Yield the modules behind which the first tokens can be taken."""
    base = model.base_model
    yield from (getattr(base, name) for name in LAST_LAYERS if hasattr(base, name))
    yield base


def _tried_sentences(model: Any, longest: int) -> Iterator[torch.Tensor]:
    """Yield int64 `[1, tokens]` of unlike lengths, the longest one among them; no token is the padding token."""
    device = next(model.parameters()).device
    for number, length in enumerate((longest, max(2, longest // 5), max(2, longest // 2))):
        ids = (torch.arange(length, device=device) * (number + 3) + 7 * number) % (model.config.vocab_size - 1)
        pad = -1 if model.config.pad_token_id is None else model.config.pad_token_id
        yield (ids + (ids >= pad)).unsqueeze(0)


def _row_of(sentences: list[torch.Tensor], offset: int) -> tuple[torch.Tensor, ...]:
    """Return the arguments of `PackedClassifier.logits` for whole sentences, none of them padding."""
    lengths = torch.tensor([each.shape[1] for each in sentences], device=sentences[0].device)
    ids = torch.cat(sentences, dim=1).int()
    positions = torch.cat([torch.arange(length, device=ids.device) for length in lengths]).int() + offset
    starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    return ids, positions.unsqueeze(0), torch.zeros_like(ids), starts, starts[:-1]


def join_projections(model: Any) -> int:
    """Compute attention's three projections as one wide GEMM, which a GPU likes better; return for how many layers."""
    joined = 0
    for module in list(model.modules()):
        for names in PROJECTIONS:
            parts: list[Any] = [getattr(module, name, None) for name in names]
            if not all(isinstance(part, torch.nn.Linear) for part in parts):
                continue
            if len({(part.in_features, part.out_features, part.bias is None) for part in parts}) == 1:
                for name, part in zip(names, _joined(parts), strict=True):
                    setattr(module, name, part)
                joined += 1
    return joined


def _joined(parts: list[Any]) -> list[Any]:
    """Return modules that each give their part of one GEMM, which the first one to be called computes."""
    first = parts[0]
    like = {"device": first.weight.device, "dtype": first.weight.dtype}
    whole = torch.nn.Linear(first.in_features, first.out_features * len(parts), first.bias is not None, **like)
    whole.load_state_dict({name: torch.cat([getattr(part, name) for part in parts]) for name in first.state_dict()})
    whole = whole.eval().requires_grad_(False)
    made: dict[int, torch.Tensor] = {}  # what no part has taken yet
    found: list[Any] = []

    class Part(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number
            if number == 0:
                self.whole = whole  # among the model's weights

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            if self.number not in made:
                made.update(enumerate(found[0].whole(hidden).chunk(len(parts), dim=-1)))
            return made.pop(self.number)

    found.extend(Part(number) for number in range(len(parts)))
    return found
