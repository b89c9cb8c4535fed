"""Regression when labels have heavy tails: bounded heads, robust losses, diagnosis of the gradient, and a study."""

from .diagnosis import GradientTails as GradientTails
from .diagnosis import TailIndex as TailIndex
from .diagnosis import gradient_tails as gradient_tails
from .diagnosis import tail_index as tail_index
from .diagnosis import top_share as top_share
from .heads import BoundedHead as BoundedHead
from .influence import Influence as Influence
from .influence import influence as influence
from .losses import AutoHuber as AutoHuber
from .losses import AutoTukey as AutoTukey
from .losses import CauchyNLL as CauchyNLL
from .losses import RobustLoss as RobustLoss
from .losses import StudentTNLL as StudentTNLL
