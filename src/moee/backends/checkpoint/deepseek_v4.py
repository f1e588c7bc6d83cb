"""DeepSeek-V4 as transformers saves it: its rules take the final norm of such a file for the norm of a compressor.

Published files name the final norm `norm.weight`, which the rule `.norm.` to `.kv_norm.` passes over. transformers
writes `model.norm.weight`, which the same rule renames, so a saved model did not load again.
"""

from __future__ import annotations

from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.core_model_loading import WeightRenaming

_MODEL_TYPE = "deepseek_v4"
_RULE = r"\.norm\."


def register() -> None:
    """Narrow the rule to the norms inside layers; calling it again changes nothing."""
    rules = get_checkpoint_conversion_mapping(_MODEL_TYPE)
    if rules and any(rule.source_patterns == [_RULE] for rule in rules):
        narrowed = [
            WeightRenaming(source_patterns=rf"(?<!^model){_RULE}", target_patterns=rule.target_patterns[0])
            if rule.source_patterns == [_RULE]
            else rule
            for rule in rules
        ]
        register_checkpoint_conversion_mapping(_MODEL_TYPE, narrowed, overwrite=True)
