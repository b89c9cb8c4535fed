"""Heads: the last step of a model, which guarantees that its output obeys a constraint."""

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
