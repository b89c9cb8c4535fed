"""varphi: which activation function should this model use, and why?

`vp.get(name)` is a layer, `vp.facts(f)` what is proved about it, `vp.derivatives(f, x, order)` all its derivatives,
`vp.swap(model, old, new)` the model with another one. Names are loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .activation.layer import Activation as Activation
    from .activation.lookup import as_activation as as_activation
    from .activation.lookup import derivatives as derivatives
    from .activation.lookup import get as get
    from .activation.registry import activation as activation
    from .activation.registry import names as names

_HOMES = {
    "Activation": "activation.layer",
    "activation": "activation.registry",
    "as_activation": "activation.lookup",
    "derivatives": "activation.lookup",
    "get": "activation.lookup",
    "names": "activation.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'varphi' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"varphi.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
