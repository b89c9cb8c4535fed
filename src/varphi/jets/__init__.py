"""Derivatives of whole models: Taylor series carried through a model's own code, with the fewest channels."""

from .channels import MissingRule as MissingRule
from .equation import Operator as Operator
from .equation import operator as operator
from .jacobian import jacobian as jacobian
from .operators import apply as apply
from .operators import bilaplacian as bilaplacian
from .operators import gradient as gradient
from .operators import hessian as hessian
from .operators import jet as jet
from .operators import laplacian as laplacian
