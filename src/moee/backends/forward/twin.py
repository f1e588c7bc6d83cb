"""A twin of a model: modules of its own around the same weights, for one pass.

Mode, hooks, kernels and configuration are attributes of modules, so every thread that runs a model sees them. A pass of
ours wants evaluation mode, hooks on routers and other kernels, while the caller may be training or generating with the
same model. So each pass runs through modules that nobody else has: shallow copies that share parameters and buffers,
made anew for each pass, so that whatever the caller has changed in between is followed. Nothing of the caller's model
is set, so nothing has to be restored.
"""

from __future__ import annotations

from functools import cache, partial
from types import MethodType
from typing import TYPE_CHECKING, Any

from moee.errors import UnsupportedArchitectureError

if TYPE_CHECKING:
    from torch import nn

_OWN_TABLES = (
    "_parameters",
    "_buffers",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)
"""Tables of a module that are written to while it runs: by our hooks, and by those that load offloaded weights."""
_PLAIN = frozenset({bool, int, float, str, type(None)})
"""Types of most attributes, which refer to nothing: a model has thousands of them, and a pass looks at all."""
_RESULT_ALONE = {"return_dict": True, "output_hidden_states": False, "output_router_logits": False}
"""What makes a forward pass return its result by name and nothing besides, whatever the configuration asks for."""


class Twin:
    """Shallow copies of a module and of all below it, in evaluation mode.

    Hooks that the caller has set stay and run. Parameters are the very same objects, and only read.

    Attributes:
        root: The copy of the module.
        configs: Copies of the configurations that the modules hold; a change to one changes nothing elsewhere.

    Args:
        module: The module to copy: a text model, or one decoder layer of it.
    """

    def __init__(self, module: nn.Module) -> None:
        originals = list(module.modules())
        self._copies: dict[int, Any] = {id(each): _blank(each) for each in originals}
        self._configs: dict[int, Any] = {}
        for each in originals:
            self._fill(self._copies[id(each)], vars(each))
        self.root = self._copies[id(module)]
        self.configs = list(self._configs.values())

    def of(self, module: nn.Module) -> Any:
        """Return the copy of a module.

        Raises:
            UnsupportedArchitectureError: If the module is no part of what was copied.
        """
        if id(module) not in self._copies:
            raise UnsupportedArchitectureError(
                f"A {type(module).__name__} that was found when the model was opened is no part of it any more. "
                "Open the model again after its modules were replaced."
            )
        return self._copies[id(module)]

    def _fill(self, copy: Any, attributes: dict[str, Any]) -> None:
        own = dict(attributes)
        for name in _OWN_TABLES:
            own[name] = attributes[name].copy()
        own["_modules"] = {name: child and self._copies[id(child)] for name, child in attributes["_modules"].items()}
        for name in attributes.keys() - _attributes_of_any():
            if type(attributes[name]) not in _PLAIN:
                own[name] = self._rebound(attributes[name])
        # what was compiled is compiled around the original
        own |= {"training": False, "_compiled_call_impl": None}
        vars(copy).update(own)

    def _rebound(self, value: Any) -> Any:
        """Return an attribute as the copy should have it: what refers to an original refers to its copy."""
        from torch import nn

        if isinstance(value, nn.Module):
            return self._copies.get(id(value), value)
        if hasattr(value, "_attn_implementation_internal"):
            return self._config(value)
        if isinstance(value, MethodType):
            return MethodType(value.__func__, self._rebound(value.__self__))
        if isinstance(value, partial):
            return partial(value.func, *map(self._rebound, value.args), **value.keywords)
        if type(value) in (list, tuple) and any(isinstance(each, nn.Module) for each in value):
            return type(value)(map(self._rebound, value))
        return value

    def _config(self, config: Any) -> Any:
        if id(config) not in self._configs:
            copy = self._configs[id(config)] = _blank(config)
            known = vars(config)
            vars(copy).update(known, **{name: value for name, value in _RESULT_ALONE.items() if name in known})
        return self._configs[id(config)]


def _blank(original: Any) -> Any:
    """Return an object of the same class without attributes; a constructor would make weights of its own."""
    return object.__new__(type(original))


@cache
def _attributes_of_any() -> frozenset[str]:
    """Return the names of the attributes that every module has; those that refer to others are dealt with by name."""
    from torch import nn

    return frozenset(vars(nn.Module()))
