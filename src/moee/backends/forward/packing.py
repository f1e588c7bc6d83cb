"""Texts side by side in one row: no padding in linear and expert layers, and the last layer only where it is read.

A batch of texts is one sequence of tokens, and every layer but attention treats tokens alone. Attention is taken over
by a function that transformers calls by name: it gathers texts of about the same length into blocks, puts the keys and
values of a shared beginning before them, and gives each text its own attention.

Nothing after the last layer's attention is read but the last token of each text. So that layer runs twice: until its
keys and values are known, and then for the last tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from moee.backends.forward.twin import Twin
from moee.errors import UnsupportedArchitectureError

if TYPE_CHECKING:
    import torch
    from torch import nn

ATTENTION = "moee_packed"
"""Name by which transformers finds our attention function."""
_SHORTEST_IN_BLOCK = 0.8
"""Length, relative to the longest text of a block of attention, that a text needs to join it. Fewer blocks are fewer
calls, tighter ones less padding."""
_NOT_COMPUTED = ("softcap", "head_mask", "position_bias")
"""What an attention layer may ask for and our function does not do."""

States = tuple["torch.Tensor", "torch.Tensor"]
"""Keys and values of one layer, `(1, heads, tokens, width)` each."""


class _KeysAreKnownError(Exception):
    """Ends the first of the last layer's two runs."""


@dataclass(frozen=True)
class Block:
    """Neighbouring texts of about the same length.

    Attributes:
        first: Number of the first text.
        start: Place of its first token.
        lengths: Tokens of each text.
        device: Device of the model; None is the CPU.
    """

    first: int
    start: int
    lengths: tuple[int, ...]
    device: torch.device | None = None

    @property
    def width(self) -> int:
        """Tokens of the longest text."""
        return max(self.lengths)

    @property
    def is_even(self) -> bool:
        """Whether all texts have the same length."""
        return min(self.lengths) == self.width

    @property
    def tokens(self) -> slice:
        """Its tokens in the batch."""
        return slice(self.start, self.start + sum(self.lengths))

    @cached_property
    def places(self) -> torch.Tensor:
        """Where each position of the padded block is among the block's tokens, `(texts * width,)` int64."""
        import torch

        lengths = torch.tensor(self.lengths, device=self.device)
        starts = lengths.cumsum(0) - lengths
        steps = torch.arange(self.width, device=self.device)
        # padding repeats a text's last token: any finite value does, for it is never seen
        return (starts[:, None] + torch.minimum(steps[None, :], lengths[:, None] - 1)).flatten()

    @cached_property
    def real(self) -> torch.Tensor:
        """`(texts, width)` bool, True on tokens, False on padding."""
        import torch

        steps, lengths = torch.arange(self.width, device=self.device), torch.tensor(self.lengths, device=self.device)
        return steps[None, :] < lengths[:, None]

    def causal_mask(self, prefix: int) -> torch.Tensor:
        """Return what each position sees: the beginning and what came before it, `(1, 1, width, prefix + width)`."""
        import torch

        ones = torch.ones(self.width, prefix + self.width, dtype=torch.bool, device=self.device)
        return ones.tril(diagonal=prefix)[None, None]

    def last_mask(self, prefix: int) -> torch.Tensor:
        """Return what the last token of each text sees: all but padding, `(texts, 1, 1, prefix + width)`."""
        import torch

        return torch.nn.functional.pad(self.real, (prefix, 0), value=True)[:, None, None]

    def rows(self, states: torch.Tensor) -> torch.Tensor:
        """Cut the block out of `(1, heads, tokens, width)`, one text a row: `(texts, heads, tokens, width)`."""
        own: torch.Tensor = states[0, :, self.tokens]
        if not self.is_even:
            own = own.index_select(1, self.places)
        heads, _, width = own.shape
        return own.view(heads, len(self.lengths), self.width, width).transpose(0, 1)


def blocks_of(lengths: Sequence[int], device: torch.device | None = None) -> list[Block]:
    """Group neighbouring texts so that the shortest of a block has at least 0.8 times the tokens of the longest.

    Args:
        lengths: Tokens of each text.
        device: Device of the model; None is the CPU.
    """
    blocks: list[Block] = []
    start = first = 0
    group: list[int] = []
    for length in lengths:
        if group and min(*group, length) < _SHORTEST_IN_BLOCK * max(*group, length):
            blocks.append(Block(first, start, tuple(group), device))
            first, start = first + len(group), start + sum(group)
            group = []
        group.append(length)
    return [*blocks, Block(first, start, tuple(group), device)]


@dataclass
class Packing:
    """One batch of texts side by side, for the attention function.

    Attributes:
        lengths: Own tokens of each text, without the shared beginning.
        shared: Tokens of the shared beginning.
        prefix: Keys and values of the shared beginning, by layer; those of a layer are needed only when it runs.
        device: Device of the model; None is the CPU.
    """

    lengths: Sequence[int]
    shared: int = 0
    prefix: Mapping[int, States] = field(default_factory=dict)
    device: torch.device | None = None
    blocks: list[Block] = field(init=False)
    _phase: Literal["all tokens", "keys", "last tokens"] = field(init=False, default="all tokens")
    _kept: States | None = field(init=False, default=None)
    _record: dict[int, States] | None = field(init=False, default=None)
    _masks: dict[tuple[Block, bool], torch.Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Group the texts."""
        self.blocks = blocks_of(self.lengths, self.device)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: Any, sinks: Any
    ) -> torch.Tensor:
        """Give every text its own attention.

        Args:
            layer: Number of the layer.
            query: `(1, heads, tokens, width)`.
            key: The same with fewer heads, perhaps.
            value: The same, of another width, perhaps.
            scale: Factor on the scores; None is `1 / sqrt(width)`.
            sinks: `(heads,)`, scores of a key that every token sees and that adds nothing; None if there are none.

        Returns:
            `(1, tokens, heads, width of value)`; of the last token of each text in the last layer's second run.
        """
        import torch

        if self._phase == "keys":
            self._kept = (key, value)
            raise _KeysAreKnownError
        if self._record is not None:
            self._record[layer] = (key, value)
        only_last = self._phase == "last tokens"
        if only_last:
            assert self._kept is not None, "the first run keeps them"
            key, value = self._kept
        parts = []
        for block in self.blocks:
            if only_last:
                rows = query[0, :, block.first : block.first + len(block.lengths)].transpose(0, 1)[:, :, None]
                mask = None if block.is_even else self._mask(block, last=True)
            else:
                rows = block.rows(query)
                mask = self._mask(block, last=False)
            keys, values = self._with_prefix(layer, block.rows(key), block.rows(value))
            out = _attention(rows, keys, values, mask, scale=scale, sinks=sinks).transpose(1, 2)
            parts.append(out.flatten(0, 1) if only_last or block.is_even else out[block.real])
        return torch.cat(parts)[None] if len(parts) > 1 else parts[0][None]

    def _mask(self, block: Block, *, last: bool) -> torch.Tensor:
        """Return what a block's tokens, or the last ones of its texts, see; the same in every layer."""
        key = (block, last)
        if key not in self._masks:
            self._masks[key] = block.last_mask(self.shared) if last else block.causal_mask(self.shared)
        return self._masks[key]

    def _with_prefix(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> States:
        import torch

        if not self.shared:
            return keys, values
        before = [each.expand(len(keys), *each.shape[1:]) for each in self.prefix[layer]]
        return torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Inside the context, our attention function treats its input as this batch."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @property
    def is_recording(self) -> bool:
        """Whether keys and values are kept."""
        return self._record is not None

    def record(self) -> Mapping[int, States]:
        """From now on keep the keys and values of every layer that runs, in what is returned."""
        self._record = {}
        return self._record

    @contextmanager
    def last_layer_trimmed(self, layer: nn.Module) -> Iterator[None]:
        """Inside the context, `layer` computes keys and values for all tokens and the rest for last tokens alone.

        Args:
            layer: The last one, of a twin.
        """
        original: Any = layer.forward
        is_own = "forward" in vars(layer)

        def forward(*args: Any, **kwargs: Any) -> Any:
            self._phase = "keys"
            try:
                original(*args, **kwargs)
            except _KeysAreKnownError:
                pass
            else:
                raise UnsupportedArchitectureError(
                    f"The attention of {type(layer).__name__} did not go through transformers' attention interface."
                )
            self._phase = "last tokens"
            return original(*self._cut(args), **self._cut(kwargs))

        layer.forward = forward
        try:
            yield
        finally:
            if is_own:
                layer.forward = original
            else:
                del layer.forward  # the class's own shows again
            self._phase, self._kept = "all tokens", None

    def _cut(self, value: Any) -> Any:
        """Keep the last token of every text in whatever has one entry for each token."""
        import torch

        if isinstance(value, torch.Tensor):
            has_tokens = value.dim() > 1 and value.shape[:2] == (1, sum(self.lengths))
            return value[:, self._last] if has_tokens else value
        if isinstance(value, tuple):
            return tuple(self._cut(each) for each in value)
        if isinstance(value, dict):
            return {key: self._cut(each) for key, each in value.items()}
        return value

    @cached_property
    def _last(self) -> torch.Tensor:
        import torch

        return torch.tensor(self.lengths, device=self.device).cumsum(0) - 1


_current: ContextVar[Packing | None] = ContextVar("moee_packing", default=None)


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention for the batch that was announced, in the form of transformers' attention interface."""
    packing = _current.get()
    window = options.get("sliding_window")
    if packing is not None and isinstance(window, int) and 0 < window < packing.shared + max(packing.lengths):
        raise UnsupportedArchitectureError(
            f"{type(module).__name__} sees {window} tokens back, fewer than the longest text has, and the "
            "configuration does not say so. Load the model with padding_side='left' to run padded batches."
        )
    asked = [name for name in _NOT_COMPUTED if options.get(name) is not None]
    if packing is None or attention_mask is not None or asked:
        raise UnsupportedArchitectureError(
            f"{type(module).__name__} cannot be run on texts side by side: it asks for {asked or 'a mask'}. "
            "Load the model with padding_side='left' to run padded batches."
        )
    out = packing.attend(module.layer_idx, query, key, value, scale=scaling, sinks=options.get("s_aux"))
    return out, None


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, *, scale: Any, sinks: Any
) -> torch.Tensor:
    import torch
    from torch.nn.functional import pad, scaled_dot_product_attention

    square = query.shape[2] == key.shape[2] and mask is not None and mask.shape[0] == 1
    if sinks is not None:
        # one more key, of zeros, whose score is the sink and whose value adds nothing
        seen = mask if mask is not None else torch.ones(1, 1, 1, key.shape[2], dtype=torch.bool, device=query.device)
        scores = torch.zeros(seen.shape, dtype=query.dtype, device=query.device).masked_fill_(~seen, float("-inf"))
        scores = scores.expand(-1, query.shape[1], -1, -1)
        sink = sinks.to(query.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
        mask, square = torch.cat([sink, scores], dim=-1), False
        key, value = pad(key, (0, 0, 1, 0)), pad(value, (0, 0, 1, 0))
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if square else mask,
        is_causal=square,  # the same mask, by a kernel that skips what is masked
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def packed_attention_in(twin: Twin) -> None:
    """Let the attention layers of a twin use our function."""
    _register()
    for config in twin.configs:
        # the public attribute would also reach into configurations of other towers
        config._attn_implementation_internal = ATTENTION


def _no_mask(*_args: Any, **_kwargs: Any) -> None:
    """Our attention function knows the texts' borders itself; a mask over all tokens would be quadratic."""


def _register() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    register: Callable[..., None]
    if ATTENTION not in ALL_ATTENTION_FUNCTIONS:
        register = ALL_ATTENTION_FUNCTIONS.register
        register(ATTENTION, packed_attention)
        register = ALL_MASK_ATTENTION_FUNCTIONS.register
        register(ATTENTION, _no_mask)
