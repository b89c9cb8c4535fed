"""Published membranes with their sources; `load("morris-lecar", set="class 2")`. Every number can be changed.

Where a set of numbers was not checked against the page it comes from, its `notes` say so.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from .gates import Gate, boltzmann, rates, steady
from .model import Current, Model
from .units import POTENTIAL, RATE


def hodgkin_huxley() -> Model:
    """The squid giant axon at 6.3 °C, potentials shifted to a rest at -65 mV."""
    sodium = [
        Gate("m", rates("explinear((V+40)/10)", "4*exp(-(V+65)/18)"), power=3),
        Gate("h", rates("0.07*exp(-(V+65)/20)", "sigmoid((V+35)/10)")),
    ]
    potassium = [Gate("n", rates("0.1*explinear((V+55)/10)", "0.125*exp(-(V+65)/80)"), power=4)]
    return Model(
        name="Hodgkin–Huxley",
        source="Hodgkin & Huxley, J. Physiol. 117 (1952) 500",
        C=1.0,
        currents=[Current("Na", 120, 50, sodium), Current("K", 36, -77, potassium), Current("L", 0.3, -54.387)],
        notes="EL = -54.387 mV is the paper's V_L = 10.613 mV. Others take -54.4 (10.6), -54.401 (10.599) or NEURON's "
        "-54.3; ΔEL shifts every current by exactly gL·ΔEL.",
    )


_MORRIS_LECAR = {
    "class 1": {"gCa": 4.0, "V3": 12.0, "V4": 17.4, "phi": 1 / 15},
    "class 2": {"gCa": 4.4, "V3": 2.0, "V4": 30.0, "phi": 0.04},
    "homoclinic": {"gCa": 4.0, "V3": 12.0, "V4": 17.4, "phi": 0.23},
}


def morris_lecar(set: str = "class 1") -> Model:
    """Barnacle muscle fibre: calcium that follows V at once, and potassium gates w."""
    shared = {"V1": -1.2, "V2": 18.0} | {k: v for k, v in _chosen("set", set, _MORRIS_LECAR).items() if k != "gCa"}
    calcium = Gate("m", steady("sigmoid(2*(V-V1)/V2)"), instantaneous=True)
    potassium = Gate("w", steady("sigmoid(2*(V-V3)/V4)", tau="sech((V-V3)/(2*V4))/phi"))
    return Model(
        name=f"Morris–Lecar, {set}",
        source="Morris & Lecar, Biophys. J. 35 (1981) 193; sets: Rinzel & Ermentrout in Koch & Segev (eds.), Methods "
        "in Neuronal Modeling, 2nd ed., MIT Press 1998; Ermentrout & Terman, Mathematical Foundations of Neuroscience, "
        "Springer 2010, table 3.1",
        C=20.0,
        currents=[
            Current("Ca", _MORRIS_LECAR[set]["gCa"], 120, [calcium]),
            Current("K", 8, -84, [potassium]),
            Current("L", 2, -60),
        ],
        parameters=shared,
        parameter_units=dict.fromkeys(("V1", "V2", "V3", "V4"), POTENTIAL) | {"phi": RATE},
        notes="phi of class 1 is 1/15; the common rounding 0.067 moves its Hopf point by 0.14 µA/cm²."
        if set == "class 1"
        else "",
    )


def wang_buzsaki() -> Model:
    """A fast-spiking hippocampal interneuron: sodium activation that follows V at once."""
    sodium = [
        Gate("m", rates("explinear((V+35)/10)", "4*exp(-(V+60)/18)"), power=3, instantaneous=True),
        Gate("h", rates("phi*0.07*exp(-(V+58)/20)", "phi*sigmoid((V+28)/10)")),
    ]
    potassium = [Gate("n", rates("phi*0.1*explinear((V+34)/10)", "phi*0.125*exp(-(V+44)/80)"), power=4)]
    return Model(
        name="Wang–Buzsáki",
        source="Wang & Buzsáki, J. Neurosci. 16 (1996) 6402",
        C=1.0,
        currents=[Current("Na", 35, 55, sodium), Current("K", 9, -90, potassium), Current("L", 0.1, -65)],
        parameters={"phi": 5.0},
        parameter_units={"phi": ""},
        notes="Unconfirmed: the equations were not checked against the paper.",
    )


def connor_stevens() -> Model:
    """A crab axon with a transient potassium current A, in the form of Dayan & Abbott."""
    sodium = [
        Gate("m", rates("3.8*explinear((V+29.7)/10)", "15.2*exp(-0.0556*(V+54.7))"), power=3),
        Gate("h", rates("0.266*exp(-0.05*(V+48))", "3.8*sigmoid((V+18)/10)")),
    ]
    potassium = [Gate("n", rates("0.2*explinear((V+45.7)/10)", "0.25*exp(-0.0125*(V+55.7))"), power=4)]
    transient = [
        # The published fit rises to 1.013 at high potentials.
        Gate(
            "a",
            steady(
                "(0.0761*exp(0.0314*(V+94.22))*sigmoid(-0.0346*(V+1.17)))^(1/3)",
                tau="0.3632 + 1.158*sigmoid(-0.0497*(V+55.96))",
            ),
            power=3,
            range=(0.0, 1.02),
        ),
        Gate("b", steady("sigmoid(-0.0688*(V+53.3))^4", tau="1.24 + 2.678*sigmoid(-0.0624*(V+50))")),
    ]
    return Model(
        name="Connor–Stevens",
        source="Connor & Stevens, J. Physiol. 213 (1971) 31; Connor, Walter & McKown, Biophys. J. 18 (1977) 81; form "
        "of Dayan & Abbott, Theoretical Neuroscience, MIT Press 2001, ch. 6",
        C=1.0,
        currents=[
            Current("Na", 120, 55, sodium),
            Current("K", 20, -72, potassium),
            Current("A", 47.7, -75, transient),
            Current("L", 0.3, -17),
        ],
        notes="Unconfirmed: the conductances and the steady states of a and b were not checked against the book.",
    )


_IZHIKEVICH = {
    "saddle-node": {"EL": -80.0, "half_n": -25.0, "tau_n": 1.0},
    "homoclinic": {"EL": -80.0, "half_n": -25.0, "tau_n": 0.152},
    "hopf": {"EL": -78.0, "half_n": -45.0, "tau_n": 1.0},
    "subcritical hopf": {
        "gL": 1.0, "EL": -78.0, "gNa": 4.0, "gK": 4.0, "half_m": -30.0, "slope_m": 7.0, "half_n": -45.0, "tau_n": 1.0,
    },
}  # fmt: skip


def izhikevich(set: str = "saddle-node") -> Model:
    """Persistent sodium and potassium, I_Na,p + I_K: two variables, and every way to begin to fire."""
    changes = _chosen("set", set, _IZHIKEVICH)
    told = {
        "saddle-node": "the book's saddle-node at 4.51 µA/cm² is met.",
        "homoclinic": "the set for the saddle homoclinic orbit, τ = 0.152 ms.",
        "hopf": "the book's Hopf point at 14.66 µA/cm² is met.",
        "subcritical hopf": "its Hopf point lies at 48.90 µA/cm², not at the 48.75 remembered of the book: this set or "
        "that number is wrong.",
    }[set]
    return Model(
        name=f"Izhikevich I_Na,p + I_K, {set}",
        source="Izhikevich, Dynamical Systems in Neuroscience, MIT Press 2007, ch. 4",
        C=1.0,
        currents=[
            Current("L", 8, -80),
            Current("Na", 20, 60, [Gate("m", boltzmann(-20, 15), instantaneous=True)]),
            Current("K", 10, -90, [Gate("n", boltzmann(-25, 5, tau=1.0))]),
        ],
        notes=f"Unconfirmed: the set was not checked against the book; {told}",
    ).with_(changes)


def fitzhugh_nagumo() -> Model:
    """A cubic and a straight line, without units: the skeleton of Hodgkin–Huxley."""
    recovery = Gate("w", steady("(V+a)/b", tau="1/(eps*b)"), range=None)
    return Model(
        name="FitzHugh–Nagumo",
        source="FitzHugh, Biophys. J. 1 (1961) 445; Nagumo, Arimoto & Yoshizawa, Proc. IRE 50 (1962) 2061",
        C=1.0,
        currents=[Current("cubic", formula="V^3/3 - V"), Current("recovery", gates=[recovery], formula="w")],
        parameters={"a": 0.7, "b": 0.8, "eps": 0.08},
        window=(-3.0, 3.0),
        dimensionless=True,
    )


MODELS: Mapping[str, Callable[..., Model]] = {
    "hodgkin-huxley": hodgkin_huxley,
    "morris-lecar": morris_lecar,
    "connor-stevens": connor_stevens,
    "wang-buzsaki": wang_buzsaki,
    "izhikevich": izhikevich,
    "fitzhugh-nagumo": fitzhugh_nagumo,
}
SETS: Mapping[str, tuple[str, ...]] = {"morris-lecar": tuple(_MORRIS_LECAR), "izhikevich": tuple(_IZHIKEVICH)}


def load(name: str, set: str | None = None) -> Model:
    """A model of the library.

    Args:
        name: one of `MODELS`.
        set: one of its sets of numbers (`SETS`), where it has several; the first by default.

    Raises:
        ValueError: an unknown name or set.
    """
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key not in MODELS:
        close = difflib.get_close_matches(key, MODELS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(MODELS)}"
        raise ValueError(f"no neuron model {name!r}; {hint}")
    if set is None:
        return MODELS[key]()
    if key not in SETS:
        raise ValueError(f"{key} has one set of numbers, got the set {set!r}")
    return MODELS[key](set)


def _chosen(what: str, name: str, sets: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if name not in sets:
        raise ValueError(f"no {what} {name!r}; there are {', '.join(map(repr, sets))}")
    return sets[name]
