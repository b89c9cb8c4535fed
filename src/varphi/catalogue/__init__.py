"""The definitions, one file per family."""

from . import algebraic as algebraic
from . import biological as biological
from . import bump as bump
from . import exponential as exponential
from . import exponential_linear as exponential_linear
from . import gated as gated
from . import periodic as periodic
from . import rectified as rectified
from . import shrinkage as shrinkage
from . import sigmoidal as sigmoidal
from . import softplus as softplus
from . import spiking as spiking
