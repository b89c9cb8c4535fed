"""Differential equations solved by nets: domains, conditions, problems, and fits to rounding in seconds."""

from .condition import Dirichlet as Dirichlet
from .condition import Free as Free
from .condition import Initial as Initial
from .condition import Neumann as Neumann
from .condition import Periodic as Periodic
from .condition import Robin as Robin
from .domain import Ball as Ball
from .domain import Box as Box
from .domain import Disk as Disk
from .domain import Domain as Domain
from .domain import Interval as Interval
from .domain import Polygon as Polygon
from .field import MLP as MLP
from .field import Field as Field
from .field import Hard as Hard
from .fit import fit as fit
from .gate import NotSmoothEnough as NotSmoothEnough
from .gate import check_smoothness as check_smoothness
from .problem import Problem as Problem
from .solution import Report as Report
from .solution import Solution as Solution
from .solution import load as load
