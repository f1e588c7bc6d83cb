"""Models of true width made of random numbers, so that speed can be measured where no checkpoint is at hand.

The widths are those of the published configurations; the number of layers is chosen to fit in memory. Every linear map
gets normal numbers with variance 1 / inputs, which keeps activations finite at any depth. Such routers choose almost
uniformly, trained ones do not: more experts are hit here by few tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from moee.architectures import architecture_for
from moee.backends.checkpoint.support import auto_class, register_native, resolve_folder
from moee.bench.weights import Setup
from moee.errors import InputError
from moee.memory import available_bytes, format_size

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_SEED = 2410
_WORKSPACE_BYTES = 3 << 30
"""For what is not weights: a batch's activations, the libraries, the interpreter."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A published model's widths.

    Attributes:
        title: The model's name.
        model_type: The `model_type` of its configuration.
        default_layers: Layers that are built unless told otherwise.
        config: Keys of the published `config.json` that differ from the class's defaults, all layers.
        source: Where the configuration was published.
    """

    title: str
    model_type: str
    default_layers: int
    config: Mapping[str, Any]
    source: str

    @property
    def layers(self) -> int:
        """Layers of the published model."""
        return int(self.config["num_hidden_layers"])

    @property
    def least_layers(self) -> int:
        """Fewest layers that have experts among them."""
        return 1 + int(self.config.get("first_k_dense_replace", 0))


SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "olmoe": Shape(
            title="OLMoE-1B-7B-0924",
            model_type="olmoe",
            default_layers=8,
            config={
                "vocab_size": 50304,
                "hidden_size": 2048,
                "intermediate_size": 1024,
                "num_hidden_layers": 16,
                "num_attention_heads": 16,
                "num_key_value_heads": 16,
                "num_experts": 64,
                "num_experts_per_tok": 8,
                "norm_topk_prob": False,
                "max_position_embeddings": 4096,
            },
            source="config.json of allenai/OLMoE-1B-7B-0924; arXiv 2409.02060",
        ),
        "qwen1.5-moe": Shape(
            title="Qwen1.5-MoE-A2.7B",
            model_type="qwen2_moe",
            default_layers=12,
            config={
                "vocab_size": 151936,
                "hidden_size": 2048,
                "intermediate_size": 5632,
                "moe_intermediate_size": 1408,
                "shared_expert_intermediate_size": 5632,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "num_key_value_heads": 16,
                "num_experts": 60,
                "num_experts_per_tok": 4,
                "norm_topk_prob": False,
                "decoder_sparse_step": 1,
                "max_position_embeddings": 8192,
            },
            source="config.json of Qwen/Qwen1.5-MoE-A2.7B",
        ),
        "deepseek-moe": Shape(
            title="DeepSeekMoE-16B",
            model_type="deepseek",
            default_layers=14,
            config={
                "vocab_size": 102400,
                "hidden_size": 2048,
                "intermediate_size": 10944,
                "moe_intermediate_size": 1408,
                "num_hidden_layers": 28,
                "first_k_dense_replace": 1,
                "num_attention_heads": 16,
                "num_key_value_heads": 16,
                "n_routed_experts": 64,
                "n_shared_experts": 2,
                "num_experts_per_tok": 6,
                "scoring_func": "softmax",
                "norm_topk_prob": False,
                "moe_layer_freq": 1,
                "max_position_embeddings": 4096,
            },
            source="config.json of deepseek-ai/deepseek-moe-16b-base; arXiv 2401.06066",
        ),
    }
)
"""By the name that `moee bench -m` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeSetup(Setup):
    """A shape of `SHAPES` with some of its layers, and the tokenizer of the demo."""

    @property
    def is_random(self) -> bool:
        """Whether the weights are random numbers."""
        return True

    @property
    def name(self) -> str:
        """The key of the shape."""
        return self.model

    @property
    def title(self) -> str:
        """The name of the published model."""
        return SHAPES[self.model].title

    @property
    def folder(self) -> Path:
        """The folder of the demo, whose tokenizer a shape borrows."""
        return resolve_folder("demo")

    def config(self) -> Any:
        """Return the configuration. `Any`: transformers leaves it untyped."""
        return shape_config(self.model, self.layers)

    def published_config(self) -> Any:
        """Return the configuration with all layers of the published model."""
        return shape_config(self.model)

    def settled(self, *, with_int8: bool = False) -> tuple[Self, str]:
        """Return the setup with the layers that fit in memory, and a sentence if they are fewer than the default.

        Args:
            with_int8: Whether a copy in 8 bits stands beside the shared model.

        Raises:
            InputError: If what was asked for does not fit.
        """
        free = available_bytes() if self.device == "cpu" else _device_free(self.device)
        layers, note = choose_layers(self.model, self.layers, self.element_bytes + with_int8, free)
        return replace(self, layers=layers), note

    def build(self, *, with_head: bool) -> PreTrainedModel:
        """Build the model of random numbers."""
        return build_random(self.config(), self.dtype, self.device, with_head=with_head)


def _device_free(device: str) -> int | None:
    import torch

    return int(torch.cuda.mem_get_info(device)[0]) if device.startswith("cuda") else None


def shape_config(name: str, layers: int | None = None) -> Any:
    """Return a configuration of a shape. `Any`: transformers leaves it untyped.

    Args:
        name: A key of `SHAPES`.
        layers: Fewer than the published model has; None for all.
    """
    from transformers import AutoConfig

    shape = SHAPES[name]
    register_native(architecture_for(shape.model_type))
    ids = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}  # of another tokenizer than is used here
    keys = {**shape.config, **ids, "num_hidden_layers": layers or shape.layers}
    return AutoConfig.for_model(shape.model_type, **keys)


def check_layers(name: str, layers: int) -> None:
    """Refuse a number of layers that a shape does not have.

    Raises:
        InputError: If it is more than the published model's, or so few that there are no experts.
    """
    shape = SHAPES[name]
    if not shape.least_layers <= layers <= shape.layers:
        dense = shape.least_layers - 1
        first = f", the first {dense} without experts" if dense else ""
        raise InputError(
            f"--layers is {layers}; {shape.title} has {shape.layers}{first}: choose {shape.least_layers} to "
            f"{shape.layers}."
        )


def needed_bytes(name: str, layers: int, element_bytes: int) -> int:
    """Return the memory that a shape wants: its layers, embedding table and head, and room to work in.

    Args:
        name: A key of `SHAPES`.
        layers: Layers that are built.
        element_bytes: Bytes of a weight in a layer, copies in another precision included: 4 in float32.
    """
    from moee.bench.work import model_cost

    keys = SHAPES[name].config
    table = int(keys["vocab_size"]) * int(keys["hidden_size"])
    return element_bytes * (model_cost(shape_config(name, layers)).weights + 2 * table) + _WORKSPACE_BYTES


def choose_layers(name: str, layers: int | None, element_bytes: int, free: int | None) -> tuple[int, str]:
    """Settle how many layers are built, by the memory that is free.

    Args:
        name: A key of `SHAPES`.
        layers: What was asked for; None takes the shape's default, halved until it fits.
        element_bytes: As `needed_bytes`.
        free: Bytes; None is unknown, and nothing is refused.

    Returns:
        The number, and a sentence if it is fewer than the default.

    Raises:
        InputError: If what was asked for does not fit, or not even one layer does; says what is needed and free.
    """
    shape = SHAPES[name]
    if layers is not None:
        check_layers(name, layers)
    chosen = layers or shape.default_layers
    needed = needed_bytes(name, chosen, element_bytes)
    if free is None or needed <= free:
        return chosen, ""
    fits = [each for each in range(shape.least_layers, chosen) if needed_bytes(name, each, element_bytes) <= free]
    lack = f"{chosen} layers of {shape.title} need {format_size(needed)}, and {format_size(free)} are free"
    if not fits:
        raise InputError(f"{lack}; not even {shape.least_layers} would fit. Free memory, or use -m demo.")
    if layers is not None:
        raise InputError(f"{lack}. At most --layers {fits[-1]} fits now.")
    while needed_bytes(name, chosen, element_bytes) > free:
        chosen = max(shape.least_layers, chosen // 2)
    return chosen, f"{lack}: {chosen} layers are built instead."


def build_random(config: Any, dtype: str, device: str = "cpu", *, with_head: bool) -> PreTrainedModel:
    """Build a model with random weights, the same for the same configuration.

    Args:
        config: A configuration of transformers.
        dtype: A name such as `"float32"`.
        device: A device of torch.
        with_head: With a language-model head where transformers has such a class; see `peers`.

    Returns:
        In evaluation mode.
    """
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    has_head = with_head and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    builder = AutoModelForCausalLM if has_head else auto_class(config)
    # numbers are drawn once, by `_fill`; the class would draw its own first, for minutes
    with torch.device(device), no_init_weights():
        model = builder.from_config(config, dtype=getattr(torch, dtype))
    _fill(model)
    return model.eval()  # type: ignore[no-any-return]  # from_config is untyped upstream


def _fill(model: torch.nn.Module) -> None:
    import torch

    generators: dict[torch.device, torch.Generator] = {}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.device not in generators:
                generators[weight.device] = torch.Generator(weight.device).manual_seed(_SEED)
            if weight.dim() > 1:
                scale = 1.0 if "embed" in name else weight.shape[-1] ** -0.5
                weight.normal_(0.0, scale, generator=generators[weight.device])
            else:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
