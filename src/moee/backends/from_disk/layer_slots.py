"""Where the weights of a module live, and how a module is emptied again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one parameter or buffer."""

    module: nn.Module
    name: str
    is_parameter: bool
    shape: torch.Size
    dtype: torch.dtype

    def of(self, value: torch.Tensor) -> torch.Tensor:
        """Return `value` as what this place holds, marked as read."""
        made = nn.Parameter(value, requires_grad=False) if self.is_parameter else value
        made._is_hf_initialized = True  # type: ignore[attr-defined]  # what transformers' own code leaves alone
        return made

    def put(self, value: torch.Tensor) -> None:
        """Set it; nothing is copied."""
        table: Any = self.module._parameters if self.is_parameter else self.module._buffers
        table[self.name] = value

    @property
    def tensor(self) -> torch.Tensor:
        """What is there now."""
        table: Any = self.module._parameters if self.is_parameter else self.module._buffers
        return table[self.name]  # type: ignore[no-any-return]


def slots_of(root: nn.Module, prefix: str = "") -> dict[str, Slot]:
    """Return the places of all parameters and buffers under `root`, by path, with `prefix` before it."""
    found = {}
    for path, module in root.named_modules():
        start = f"{prefix}{path}." if path else prefix
        for table, is_parameter in ((module._parameters, True), (module._buffers, False)):
            for name, value in table.items():
                if value is not None:
                    found[start + name] = Slot(module, name, is_parameter, value.shape, value.dtype)
    return found


@dataclass(slots=True)
class Undo:
    """Takes weights off a layer again, and what was put on it besides."""

    tables: list[tuple[dict[str, Any], dict[str, Any]]]
    attributes: list[tuple[nn.Module, str, object]] = field(default_factory=list)

    @classmethod
    def of(cls, layer: nn.Module) -> Undo:
        """Remember an empty layer."""
        kinds = ("_parameters", "_buffers", "_modules")
        tables = [module.__dict__[kind] for module in layer.modules() for kind in kinds]
        return cls([(table, dict(table)) for table in tables])

    def watch(self, layer: nn.Module, change: Callable[[], None]) -> None:
        """Run `change` and remember which attributes of the layer's modules it sets."""
        before = [(module, dict(module.__dict__)) for module in layer.modules()]
        try:
            change()
        finally:
            self.attributes.extend(
                (module, key, attributes.get(key, _ABSENT))
                for module, attributes in before
                for key, value in module.__dict__.items()
                if value is not attributes.get(key, _ABSENT)
            )

    def restore(self) -> None:
        """Make the layer as it was."""
        for table, before in self.tables:
            table.clear()
            table.update(before)
        for module, key, value in self.attributes:
            if value is _ABSENT:
                module.__dict__.pop(key, None)
            else:
                module.__dict__[key] = value
