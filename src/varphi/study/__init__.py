"""How evidence is gathered: studies declared as data, many paired seeds at once, storage, statistics, verdicts."""

# First: a module that is imported later would take the place of the function `results`.
from .results import Results as Results

# isort: split
from .api import export as export
from .api import load as load
from .api import names as names
from .api import results as results
from .api import run as run
from .declaration import Claim as Claim
from .declaration import Figure as Figure
from .declaration import Outcome as Outcome
from .declaration import Setting as Setting
from .declaration import Size as Size
from .declaration import Study as Study
from .declaration import Tuning as Tuning
from .ranking import Contest as Contest
from .replicas import replicate as replicate
from .search import Point as Point
from .search import Range as Range
from .search import Search as Search
