"""The definitions, one file per family."""

from . import gated as gated
from . import rectified as rectified
from . import sigmoidal as sigmoidal
from . import softplus as softplus
