"""Constrained regression: heads whose output obeys a constraint, and a study of the activations that close them."""

from .heads import ElementwiseHead as ElementwiseHead
from .heads import Head as Head
from .heads import Range as Range
from .heads import head as head
from .health import HeadReport as HeadReport
from .transform import HeadTransform as HeadTransform
from .vectors import Ordered as Ordered
from .vectors import PositiveDefinite as PositiveDefinite
from .vectors import Softmax as Softmax
from .vectors import StickBreaking as StickBreaking
from .vectors import UnitNorm as UnitNorm
