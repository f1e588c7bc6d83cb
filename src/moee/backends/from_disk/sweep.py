"""Models larger than memory: a chunk of the corpus goes through a layer before the next layer is read.

However long a corpus is, each weight is read once for every chunk of it, and no weight stays: memory holds two layers
(one at work, one being read), the states of the chunk's tokens, and the work space of one batch. Once a chunk takes
longer to compute than the model takes to read, the disk costs nothing.

The model's own code does everything but the order. Its forward runs once for each batch with the layers only noting
what they are called with (positions, masks), each layer then runs for all batches in turn, and at the end the forward
runs once more with layers that hand over the result, so that what follows the last layer is done as always.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from moee.backends.base import shareable
from moee.backends.forward.batch import Batch, Work
from moee.backends.forward.huggingface import HuggingFaceBackend
from moee.backends.forward.out_of_memory import translating_out_of_memory
from moee.backends.forward.packing import States, packed_attention_in
from moee.backends.forward.twin import Twin
from moee.backends.from_disk.layer_store import LayerStore, Prepare
from moee.backends.kernels.norms import norms_in_pieces
from moee.backends.kernels.select import experts_kernel
from moee.errors import InputError, UnsupportedArchitectureError
from moee.memory import format_size, resident_bytes
from moee.types import Activations, CapturePlan

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("moee")

_STATES_IN_BATCH = 14
"""Work space of a batch, in states of all its tokens: queries, keys, values, sums, what norms return."""
SLACK_BYTES = 200 * 2**20
"""Memory for what the libraries take while they work."""

Sequences = Sequence[Sequence[int]]


def held_bytes(device: torch.device) -> int:
    """Return what is taken now: by this process on a CPU, by all of them on a GPU."""
    import torch

    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return int(total - free)
    return resident_bytes()


def work_bytes(hidden_size: int, itemsize: int, batch_tokens: int) -> int:
    """Return about what a batch needs besides weights, in bytes."""
    return _STATES_IN_BATCH * hidden_size * itemsize * batch_tokens


@dataclass
class Passage:
    """A batch on its way through the layers.

    Attributes:
        batch: What goes.
        states: What the last layer returned, `(rows, width, dim)`.
        calls: By layer: what it is called with besides the states.
    """

    batch: Batch
    states: torch.Tensor | None = None
    calls: dict[int, tuple[tuple[Any, ...], Mapping[str, Any]]] = field(default_factory=dict)


class SweepBackend(HuggingFaceBackend):
    """Runs a model whose layers come from disk, one after the other, for many batches at a time.

    Args:
        store: Gives the layers.
        tokenizer: Tokenizer of the model.
        memory: Bytes that the process may take; on a GPU, of its memory.
        widths: Width of each router, in layer order: it cannot be probed without reading the whole model.
        prepare: Called with each layer as it comes.
    """

    _bounds_memory = True

    def __init__(
        self,
        store: LayerStore,
        tokenizer: PreTrainedTokenizerBase,
        *,
        memory: int,
        widths: Mapping[int, int],
        prepare: Prepare | None = None,
        **options: Any,
    ) -> None:
        self._store = store
        self._memory = memory
        self._widths = widths
        self._prepare = prepare
        self._beginnings: dict[tuple[int, ...], Mapping[int, States]] = {}
        super().__init__(store.model, tokenizer, **options)
        self._info = replace(self._info, weights="disk")
        if prepare is not None:
            self._info = replace(self._info, precision="int8", kernel="int8")
        if not self.packs:
            raise UnsupportedArchitectureError(
                f"{self.info.model_type!r} mixes tokens in ways that need all of its layers in memory, so it cannot be "
                "run a layer at a time. Use a machine with more memory, or a larger --memory."
            )

    def _probe_widths(self) -> tuple[int, ...]:
        return tuple(self._widths[site.layer_id] for site in self._sites)

    def run(self, batches: Sequence[Sequences], plan: CapturePlan, *, shared: int = 0) -> Iterator[Activations]:
        """Sweep chunk after chunk. See `base.Backend.run`."""
        self._open_model()
        shared = shareable(plan, shared)
        for chunk in self._chunks(batches, plan, shared):
            yield from self._sweep(chunk, plan, shared)

    def forward(self, sequences: Sequences, plan: CapturePlan, *, shared: int = 0) -> Activations:
        """Run one batch: a whole sweep for it."""
        return next(self.run([sequences], plan, shared=shared))

    def _chunks(self, batches: Sequence[Sequences], plan: CapturePlan, shared: int) -> Iterator[list[Sequences]]:
        """Group batches into chunks whose states fit into what the weights leave of the memory."""
        most = self.chunk_tokens(max(sum(len(each) - shared for each in batch) for batch in batches))
        chunk: list[Sequences] = []
        tokens = 0
        for batch in batches:
            own = sum(len(each) - shared for each in batch)
            if chunk and tokens + own > most:
                yield chunk
                chunk, tokens = [], 0
            chunk.append(batch)
            tokens += own
        yield chunk

    def chunk_tokens(self, batch_tokens: int) -> int:
        """Return how many tokens a chunk may have, for batches of `batch_tokens`.

        Raises:
            InputError: If the memory does not hold the weights of two layers and one batch.
        """
        state = self.info.hidden_size * self._model.dtype.itemsize
        layers = sum(sorted(self._store.layer_bytes)[-2:])
        needed = layers + work_bytes(self.info.hidden_size, self._model.dtype.itemsize, batch_tokens) + SLACK_BYTES
        held = held_bytes(self._device)
        left = self._memory - held - needed
        # the states, and what positions and masks take beside them
        tokens = int(left // (1.25 * state))
        if tokens < batch_tokens:
            enough = held + needed + int(1.25 * state) * batch_tokens
            raise InputError(
                f"{format_size(self._memory)} of memory do not hold a sweep of this model: {format_size(held)} are "
                f"taken now, two layers need {format_size(layers)}, and a batch of {batch_tokens} tokens the rest of "
                f"{format_size(enough)}. Give at least that with --memory, or make batches smaller with --batch-tokens."
            )
        return tokens

    def _sweep(self, chunk: list[Sequences], plan: CapturePlan, shared: int) -> Iterator[Activations]:
        tokens = sum(len(each) for batch in chunk for each in batch)
        with translating_out_of_memory(f"in a sweep of {tokens} tokens"), self._pass() as twin:
            packed_attention_in(twin)
            passages = [Passage(self._batch(sequences, plan, shared)) for sequences in chunk]
            travellers = [*self._missing_beginning(chunk[0], passages), *passages]
            logger.info("sweep: %d tokens through %d layers", tokens, self._store.num_layers)
            self._note_calls(twin, travellers)
            for number, layer in self._store.layers(prepare=self._prepare):
                body = self._layer_twin(layer)
                for passage in travellers:
                    self._through(number, body, passage, plan)
            self._finish(twin, passages, plan)
        for passage in passages:
            self.work += passage.batch.work
            yield self._activations(passage.batch.captured, plan)

    def _missing_beginning(self, sequences: Sequences, passages: Sequence[Passage]) -> Iterator[Passage]:
        """Give all passages the keys and values of what they share; yield the passage that computes them, if need be.

        It goes through every layer before the others, so what they need is there when they come.
        """
        packing = passages[0].batch.packing
        if packing is None or not packing.shared:
            return
        tokens = tuple(sequences[0][: packing.shared])
        states = self._beginnings.get(tokens)
        if states is None:
            batch = self._beginning(tokens)
            assert batch.packing is not None, "what is shared is shared by packed texts"
            states = batch.packing.record()
            self._beginnings = {tokens: states}
            self.work += Work(0, len(tokens), len(tokens))
            yield Passage(batch)
        for passage in passages:
            if passage.batch.packing is not None:
                passage.batch.packing.prefix = states

    def _note_calls(self, twin: Twin, passages: Sequence[Passage]) -> None:
        """Run the model without its layers, and keep what it would have called them with."""

        def noting(number: int, passage: Passage) -> Callable[..., Any]:
            def forward(states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
                if passage.states is None:
                    passage.states = states
                passage.calls[number] = (args, kwargs)
                return states

            return forward

        for passage in passages:
            self._layers_do(twin, partial(noting, passage=passage))
            twin.root(**passage.batch.inputs)

    def _through(self, number: int, layer: Twin, passage: Passage, plan: CapturePlan) -> None:
        """Take one batch through one layer."""
        args, kwargs = passage.calls.pop(number)
        final = self._num_layers - 1
        with ExitStack() as stack:
            batch = passage.batch
            assert batch.packing is not None, "only packed batches are swept"
            stack.enter_context(batch.packing.announced())
            if batch.trims and number == final:
                stack.enter_context(batch.packing.last_layer_trimmed(layer.root))
            if not batch.packing.is_recording:  # of a beginning, nothing but keys and values is read
                stack.enter_context(self._capture(batch, plan, layer, only=number))
            output = layer.root(passage.states, *args, **kwargs)
        passage.states = output[0] if isinstance(output, tuple) else output

    def _finish(self, twin: Twin, passages: Sequence[Passage], plan: CapturePlan) -> None:
        """Let the model do to the last layer's output what it does, a final norm for the most part."""
        if not self._reads_output(plan):
            return
        for passage in passages:
            states = passage.states
            self._layers_do(twin, lambda _number, states=states: lambda *_args, **_kwargs: states)  # type: ignore[misc]
            output = twin.root(**passage.batch.inputs)
            self._read_output(passage.batch, output.last_hidden_state, plan)
            passage.states = None

    def _layers_do(self, twin: Twin, forward_of: Callable[[int], Callable[..., Any]]) -> None:
        """Replace what every layer of a twin does."""
        for number, layer in enumerate(self._layers()):
            twin.of(layer).forward = forward_of(number)

    @staticmethod
    def _layer_twin(layer: nn.Module) -> Twin:
        """Return a twin of a layer that has just come, with our kernels."""
        twin = Twin(layer)
        experts_kernel(twin.root)
        packed_attention_in(twin)
        norms_in_pieces(twin.root)
        return twin

    def close(self) -> None:
        """Drop the model and its files."""
        with self._lock:
            if not self._is_closed:
                del self._store
            super().close()
