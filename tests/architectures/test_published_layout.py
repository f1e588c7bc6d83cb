"""Every architecture row against a folder in the layout that its checkpoints are published in.

transformers writes a model back under the published names, so what it writes is what a hub repository holds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModel

from moee.architectures import all_architectures, architecture_for
from moee.backends.inspect import inspect_model, routers_in_headers
from moee.backends.checkpoints import tensor_entries, weight_files
from moee.backends.loading import LoadOptions, open_backend
from moee.types import CapturePlan
from tests.architectures.tiny import SEQUENCES, backend_for, tiny_config
from tests.checkpoints import save_checkpoint

SUPPORTED = [name for row in all_architectures() if not row.unsupported for name in row.model_types]


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_a_published_folder_is_described_and_loaded(model_type: str, tmp_path: Path) -> None:
    row = architecture_for(model_type)
    here = backend_for(model_type)
    folder = save_checkpoint(model_type, tmp_path)
    expected = dict(zip(row.tiny_layers, row.tiny_experts, strict=True))
    # the header reading must not fall back to building the model, which hides a missing name
    assert routers_in_headers(list(tensor_entries(weight_files(folder))), row) == expected

    summary = inspect_model(folder)
    assert summary.model_type == model_type
    assert (summary.layer_ids, summary.num_experts) == (row.tiny_layers, row.tiny_experts)
    assert summary.hidden_size == here.info.hidden_size
    top_k = summary.top_k if isinstance(summary.top_k, tuple) else (summary.top_k,) * len(row.tiny_layers)
    assert top_k == here.info.top_k

    if type(tiny_config(model_type)) not in AutoModel._model_mapping:
        assert row.wrappers, "a decoder that cannot be loaded alone is only ever published inside a larger model"
        return
    loaded = open_backend(folder, LoadOptions(dtype="float32", device="cpu"))
    theirs, ours = loaded.forward(SEQUENCES, CapturePlan()), here.forward(SEQUENCES, CapturePlan())
    np.testing.assert_allclose(theirs.routing, ours.routing, atol=1e-6)
    np.testing.assert_allclose(theirs.hidden_states, ours.hidden_states, atol=1e-6)
