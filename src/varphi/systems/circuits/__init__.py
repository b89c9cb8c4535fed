"""Gene circuits of Hill functions: pulses, delays, adaptation, noise."""

from .circuit import Circuit as Circuit
from .circuit import Gene as Gene
from .circuit import Regulation as Regulation
from .circuit import Transcript as Transcript
from .design import Design as Design
from .design import design as design
from .dose import dose_response as dose_response
from .dose import hysteresis as hysteresis
from .gradients import gradients as gradients
from .measures import NoPulse as NoPulse
from .measures import Pulse as Pulse
from .measures import fold_change as fold_change
from .measures import respond as respond
from .model import Model as Model
from .motifs import Network as Network
from .proofs import certify as certify
from .sampling import Range as Range
from .sampling import sampled as sampled
from .sensitivity import morris as morris
from .sensitivity import sobol as sobol
from .steady import rest as rest
from .units import Units as Units
