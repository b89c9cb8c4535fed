"""Conductance-based neurons: models with proved special points, f–I curves, and the class of their excitability."""

from .equilibria import Equilibria as Equilibria
from .equilibria import Equilibrium as Equilibrium
from .equilibria import Special as Special
from .equilibria import SpecialPoints as SpecialPoints
from .equilibria import equilibria as equilibria
from .equilibria import special_points as special_points
from .excitability import Excitability as Excitability
from .excitability import excitability as excitability
from .firing import FICurve as FICurve
from .firing import fi_curve as fi_curve
from .gates import Gate as Gate
from .gates import boltzmann as boltzmann
from .gates import rates as rates
from .gates import steady as steady
from .library import load as load
from .model import Current as Current
from .model import Model as Model
from .phase_plane import PhasePlane as PhasePlane
from .phase_plane import phase_plane as phase_plane
from .plane import ExcitabilityMap as ExcitabilityMap
from .plane import excitability_map as excitability_map
