"""The definitions, one file per family."""

from . import exponential_linear as exponential_linear
from . import gated as gated
from . import rectified as rectified
from . import sigmoidal as sigmoidal
from . import softplus as softplus
