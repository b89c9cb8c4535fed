"""Certified robustness: radii within which a classifier's answer is proved, Lipschitz constants, 1-Lipschitz layers."""

from .attack import Nearest as Nearest
from .attack import nearest as nearest
from .certificate import Certificates as Certificates
from .certificate import Summary as Summary
from .checks import SoundnessError as SoundnessError
from .layers import CertificateLoss as CertificateLoss
from .layers import GroupSort as GroupSort
from .layers import LipschitzConv2d as LipschitzConv2d
from .layers import LipschitzLinear as LipschitzLinear
from .layers import one_lipschitz as one_lipschitz
from .lipschitz import Ball as Ball
from .lipschitz import Lipschitz as Lipschitz
from .lipschitz import lipschitz as lipschitz
from .network import plain as plain
from .radius import compare as compare
from .radius import radius as radius
from .slopes import UnboundedSlope as UnboundedSlope
