"""Certified bounds: lines around any activation, bounds of whole models. The package is callable: `vp.bounds(...)`."""

import sys
from types import ModuleType
from typing import Any

from .api import Bounds as Bounds
from .attack import Found as Found
from .attack import attack as attack
from .curvature import Curvature as Curvature
from .curvature import curvature as curvature
from .nodes import UncertifiedOperation as UncertifiedOperation
from .onnx import load_onnx as load_onnx
from .radius import Radii as Radii
from .radius import certified_radius as certified_radius
from .relaxation import Lines as Lines
from .relaxation import relax as relax
from .splitting import Halfspaces as Halfspaces
from .splitting import Verdict as Verdict
from .splitting import decide as decide
from .verification import Answer as Answer
from .verification import Counterexample as Counterexample
from .verification import verify as verify
from .vnnlib import Property as Property
from .vnnlib import read_vnnlib as read_vnnlib


class _CallableModule(ModuleType):
    """A module that can be called: `varphi.bounds` is both a folder of code and the function users call."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from .api import bounds

        return bounds(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
