"""Systems of differential equations and of reactions: ensembles, events, branches of periodic orbits."""

from .approach import Approach as Approach
from .approach import approach as approach
from .curves import Curve as Curve
from .curves import continue_curve as continue_curve
from .cycles import CycleBranch as CycleBranch
from .cycles import Orbit as Orbit
from .cycles import continue_cycles as continue_cycles
from .cycles import orbit_at_doubling as orbit_at_doubling
from .cycles import orbit_at_hopf as orbit_at_hopf
from .cycles import orbit_by_simulation as orbit_by_simulation
from .ensemble import Cycle as Cycle
from .ensemble import Ensemble as Ensemble
from .ensemble import Event as Event
from .ensemble import simulate as simulate
from .equilibria import EquilibriumBranch as EquilibriumBranch
from .equilibria import continue_equilibria as continue_equilibria
from .sensitivity import Sensitivities as Sensitivities
from .sensitivity import sensitivities as sensitivities
from .status import Status as Status
from .stochastic import Counts as Counts
from .stochastic import Network as Network
from .stochastic import Reaction as Reaction
from .stochastic import simulate_counts as simulate_counts
from .system import System as System
