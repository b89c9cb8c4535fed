"""A membrane of your own: its gates, where it loses its rest, which type it is, its f–I curve.

Run: python examples/neurons.py      (a few seconds)
"""

import numpy as np

from varphi.systems.neurons import (
    Current,
    Gate,
    Model,
    boltzmann,
    excitability,
    excitability_map,
    fi_curve,
    special_points,
    steady,
)  # fmt: skip

# Two currents and a leak. Potentials in mV, currents in µA/cm², conductances in mS/cm², time in ms.
model = Model(
    name="my membrane",
    C=1,
    currents=[
        Current("Na", g="0.02 S/cm2", E=60, gates=[Gate("m", boltzmann(half=-20, slope=15), instantaneous=True)]),
        Current("K", g=10, E=-90, gates=[Gate("n", steady("sigmoid((V - half_n)/5)", tau="0.5 + sech((V + 30)/30)"))]),
        Current("L", g=8, E=-80),
    ],
    parameters={"half_n": -25.0},
)

# Every point at which rest can change, with proof that there are no others.
print(special_points(model))

# Type I or II, and why.
print(excitability(model))

# The potassium gate opens 20 mV earlier: the same membrane is of the other type.
print(excitability(model.with_(half_n=-45)))

print(fi_curve(model, np.linspace(4, 12, 5)))

found = excitability_map(model, ("half_n", np.linspace(-50, -20, 16)), ("gK", np.linspace(4, 16, 13)))
print(found)
