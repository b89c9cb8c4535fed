"""What is proved or measured about one activation. The package itself is callable: `vp.facts("gelu")`."""

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """A module that can be called: `varphi.facts` is both a folder of code and the function users call."""

    def __call__(self, f: Any, **parameters: Any) -> Any:
        from .api import facts

        return facts(f, **parameters)


sys.modules[__name__].__class__ = _CallableModule
