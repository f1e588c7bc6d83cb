"""Mixtures of experts that cannot serve embeddings, with the reason."""

from __future__ import annotations

from moee.architectures.spec import Architecture

_ENCODER_DECODER = (
    "it is an encoder-decoder: its experts take a limited number of tokens of the whole batch, so a text would depend "
    "on its neighbours, and there is no last token that has read the text. Choose a decoder."
)

ROWS = (
    Architecture(
        model_types=("nllb-moe",),
        router="ffn.router",
        router_class="NllbMoeTop2Router",
        output=2,
        unsupported=_ENCODER_DECODER,
        source="transformers nllb_moe, NllbMoeTop2Router",
    ),
    Architecture(
        model_types=("switch_transformers",),
        router="layer.1.mlp.router",
        router_class="SwitchTransformersTop1Router",
        output=2,
        unsupported=_ENCODER_DECODER,
        source="transformers switch_transformers, SwitchTransformersTop1Router",
    ),
    Architecture(
        model_types=("doge",),
        router="mlp",
        router_class="DogeCDMoE",
        output=1,
        unsupported=(
            "its experts are chosen from router scores that are mixed across the tokens of the whole batch, so a text "
            "would depend on its neighbours. Choose another mixture of experts."
        ),
        source="transformers doge, DogeCDMoE: the comment at its router's view(2, tokens, -1)",
    ),
)
