"""Multimodal models: the decoder that their row describes is found inside the whole model.

Built without memory for weights: vision and audio towers keep their real size.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING

from moee.architectures import find_architecture
from moee.backends.checkpoint.support import auto_class
from moee.backends.forward.huggingface import text_model_of
from moee.backends.forward.routers import find_routers
from tests.architectures.tiny import WRAPPERS, tiny_config

_SIZES: dict[str, dict[str, Any]] = {
    # towers whose output width has to be the decoder's
    "dots3_note": {"vision_config": {"adapter_out_dim": 32}, "audio_config": {"adapter_out_dim": 32}},
    "inkling2": {"vision_config": {"text_hidden_size": 32}},
    "muse_spark": {"audio_config": {"out_hidden_size": 32}},
    "qwen3_omni_moe": {"enable_audio_output": False},
}


def _wrapper_config(name: str, text_config: Any) -> Any:
    config_class = CONFIG_MAPPING[name]
    sizes = _SIZES.get(name, {})
    if "thinker_config" in config_class.sub_configs:
        return config_class(thinker_config={"text_config": text_config.to_dict()}, **sizes)
    return config_class(text_config=text_config.to_dict(), **sizes)


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_decoder_is_found_inside_the_whole_model(name: str) -> None:
    row = find_architecture(name)
    assert row is not None
    config = _wrapper_config(name, tiny_config(row.model_types[0]))
    with torch.device("meta"):
        model = auto_class(config).from_config(config)
    decoder = text_model_of(model)
    assert decoder.config.model_type in row.model_types
    assert decoder is not model, "the towers would run with it"
    assert tuple(site.layer_id for site in find_routers(decoder, row)) == row.tiny_layers
