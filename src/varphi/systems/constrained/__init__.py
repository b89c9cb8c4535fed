"""Constrained regression: a study of the activations that close a model whose output obeys a constraint.

The heads themselves are in `varphi.heads`; they are named here too, as the parts of this field.
"""

from varphi.heads import ElementwiseHead as ElementwiseHead
from varphi.heads import Head as Head
from varphi.heads import HeadReport as HeadReport
from varphi.heads import HeadTransform as HeadTransform
from varphi.heads import Ordered as Ordered
from varphi.heads import PositiveDefinite as PositiveDefinite
from varphi.heads import Range as Range
from varphi.heads import Softmax as Softmax
from varphi.heads import StickBreaking as StickBreaking
from varphi.heads import UnitNorm as UnitNorm
from varphi.heads import head as head
