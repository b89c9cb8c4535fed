"""varphi: which activation function should this model use, and why?

`vp.get(name)` is a layer, `vp.facts(f)` what is proved about it, `vp.derivatives(f, x, order)` all its derivatives,
`vp.swap(model, old, new)` the model with another one, `vp.compare(model, fit)` which one it does best with. Names are
loaded when first used.
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
    from .activation.lookup import scalar as scalar
    from .activation.registry import names as names
    from .activation.swapping import swap as swap
    from .activation.tracing import trace as trace
    from .activation.uses import activations_in as activations_in
    from .bounds.api import bounds as bounds
    from .bounds.relaxation import relax as relax
    from .comparison.api import compare as compare
    from .comparison.result import Comparison as Comparison
    from .facts.api import facts as facts
    from .facts.facts import Facts as Facts
    from .facts.interval import Interval as Interval
    from .heads.heads import head as head
    from .jets import bilaplacian as bilaplacian
    from .jets import gradient as gradient
    from .jets import hessian as hessian
    from .jets import jet as jet
    from .jets import laplacian as laplacian
    from .jets import operator as operator

_HOMES = {
    "Activation": "activation.layer",
    "Comparison": "comparison.result",
    "Facts": "facts.facts",
    "Interval": "facts.interval",
    "activations_in": "activation.uses",
    "as_activation": "activation.lookup",
    "bilaplacian": "jets",
    "bounds": "bounds",
    "compare": "comparison.api",
    "derivatives": "activation.lookup",
    "facts": "facts",
    "get": "activation.lookup",
    "gradient": "jets",
    "head": "heads.heads",
    "hessian": "jets",
    "jet": "jets",
    "laplacian": "jets",
    "names": "activation.registry",
    "operator": "jets",
    "relax": "bounds.relaxation",
    "scalar": "activation.lookup",
    "swap": "activation.swapping",
    "trace": "activation.tracing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'varphi' has no attribute {name!r}")
    home = importlib.import_module(f"varphi.{_HOMES[name]}")
    value = home if _HOMES[name] == name else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
