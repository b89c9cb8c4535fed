"""Membranes from NMODL, NeuroML and SBML, and to SBML: the texts here are written out from the published equations.

Oracles: the Hopf points of Hodgkin and Huxley's axon with a leak at -54.3 mV, the library's own models after a journey
through SBML, and libroadrunner's trajectories.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varphi.activation.parsing import read
from varphi.dynamics.ensemble import simulate
from varphi.dynamics.mathml import UnsupportedModel, sbml_formula
from varphi.systems.neurons import (
    Current,
    Gate,
    Model,
    boltzmann,
    from_file,
    from_neuroml,
    from_nmodl,
    from_sbml,
    load,
    special_points,
    steady,
    to_neuroml,
    to_sbml,
)
from varphi.systems.neurons.library import MODELS, SETS
from varphi.systems.neurons.recognise import conductance, kinetics, stable
from varphi.systems.neurons.units import as_written

# NEURON's leak is at -54.3 mV: I moves by exactly 0.3·(54.387 - 54.3).
HOPF = (9.749337995393, 154.496333665808)
OUTSIDE = {"ena": 50.0, "ek": -77.0, "celsius": 6.3}

AXON = """TITLE squid axon, the equations of 1952
COMMENT
 Written out: sodium, potassium and leak { of any kind }.
ENDCOMMENT
UNITS {
  (mA) = (milliamp)
  (mV) = (millivolt)
  (S) = (siemens)
}
NEURON {
  SUFFIX squid
  USEION na READ ena WRITE ina
  USEION k READ ek WRITE ik
  NONSPECIFIC_CURRENT il
  RANGE gnabar, gkbar, gl, el, gna, gk
  GLOBAL minf, hinf, ninf, mtau, htau, ntau
  THREADSAFE
}
PARAMETER {
  gnabar = .12 (S/cm2) <0,1e9>
  gkbar = .036 (S/cm2)
  gl = .0003 (S/cm2)
  el = -54.3 (mV)
}
STATE { m h n }
ASSIGNED {
  v (mV) celsius (degC) ena (mV) ek (mV)
  gna (S/cm2) gk (S/cm2) ina (mA/cm2) ik (mA/cm2) il (mA/cm2)
  minf hinf ninf mtau (ms) htau (ms) ntau (ms)
}
BREAKPOINT {
  SOLVE states METHOD cnexp
  gna = gnabar*m*m*m*h
  ina = gna*(v - ena)
  gk = gkbar*n*n*n*n
  ik = gk*(v - ek)
  il = gl*(v - el)
}
INITIAL { rates(v) m = minf h = hinf n = ninf }
DERIVATIVE states {
  rates(v)
  m' = (minf - m)/mtau
  h' = (hinf - h)/htau
  n' = (ninf - n)/ntau
}
PROCEDURE rates(v (mV)) {
  LOCAL alpha, beta, sum, q10
  TABLE minf, mtau, hinf, htau, ninf, ntau DEPEND celsius FROM -100 TO 100 WITH 200
  UNITSOFF
  q10 = 3^((celsius - 6.3)/10)
  : sodium
  alpha = .1 * hole(-(v+40), 10)
  beta = 4 * exp(-(v+65)/18)
  sum = alpha + beta
  mtau = 1/(q10*sum)
  minf = alpha/sum
  alpha = .07 * exp(-(v+65)/20)
  beta = 1 / (exp(-(v+35)/10) + 1)
  sum = alpha + beta
  htau = 1/(q10*sum)
  hinf = alpha/sum
  alpha = .01*hole(-(v+55), 10) ? potassium
  beta = .125*exp(-(v+65)/80)
  sum = alpha + beta
  ntau = 1/(q10*sum)
  ninf = alpha/sum
}
FUNCTION hole(x, y) {
  if (fabs(x/y) < 1e-6) {
    hole = y*(1 - x/y/2)
  } else {
    hole = x/(exp(x/y) - 1)
  }
}
UNITSON
"""

CELL = """<neuroml xmlns="http://www.neuroml.org/schema/neuroml2" id="hh">
  <ionChannelHH id="passive" conductance="10pS"/>
  <ionChannelHH id="na" conductance="10pS" species="na">
    <gateHHrates id="m" instances="3">
      <q10Settings type="q10ExpTemp" q10Factor="3" experimentalTemp="6.3 degC"/>
      <forwardRate type="HHExpLinearRate" rate="1per_ms" midpoint="-40mV" scale="10mV"/>
      <reverseRate type="HHExpRate" rate="4per_ms" midpoint="-65mV" scale="-18mV"/>
    </gateHHrates>
    <gateHHrates id="h" instances="1">
      <forwardRate type="HHExpRate" rate="70per_s" midpoint="-65mV" scale="-20mV"/>
      <reverseRate type="HHSigmoidRate" rate="1per_ms" midpoint="-0.035V" scale="10mV"/>
    </gateHHrates>
  </ionChannelHH>
  <ionChannel id="k" type="ionChannelHH" conductance="10pS" species="k">
    <gate id="n" type="gateHHrates" instances="4">
      <forwardRate type="linoid" rate="0.1per_ms" midpoint="-55mV" scale="10mV"/>
      <reverseRate type="HHExpRate" rate="0.125per_ms" midpoint="-65mV" scale="-80mV"/>
    </gate>
  </ionChannel>
  <ComponentType name="linoid" extends="baseVoltageDepRate">
    <Parameter name="rate" dimension="per_time"/><Parameter name="midpoint" dimension="voltage"/>
    <Parameter name="scale" dimension="voltage"/>
    <Constant name="TIME_SCALE" dimension="time" value="1 ms"/>
    <Dynamics>
      <DerivedVariable name="x" dimension="none" value="(v - midpoint)/scale"/>
      <ConditionalDerivedVariable name="r" exposure="r" dimension="per_time">
        <Case condition="x .neq. 0" value="(rate*TIME_SCALE)*x/(1 - exp(0 - x))/TIME_SCALE"/>
        <Case value="rate"/>
      </ConditionalDerivedVariable>
    </Dynamics>
  </ComponentType>
  <cell id="squid">
    <morphology id="one"><segment id="0">
      <proximal x="0" y="0" z="0" diameter="10"/><distal x="10" y="0" z="0" diameter="10"/></segment></morphology>
    <biophysicalProperties id="b">
      <membraneProperties>
        <channelDensity id="leak" ionChannel="passive" condDensity="3.0 S_per_m2" erev="-54.3mV" ion="non_specific"/>
        <channelDensity id="naChans" ionChannel="na" condDensity="120.0 mS_per_cm2" erev="50.0 mV" ion="na"/>
        <channelDensity id="kChans" ionChannel="k" condDensity="360 S_per_m2" erev="-77mV" ion="k"/>
        <spikeThresh value="-20mV"/>
        <specificCapacitance value="1.0 uF_per_cm2"/>
        <initMembPotential value="-65mV"/>
      </membraneProperties>
      <intracellularProperties><resistivity value="0.03 kohm_cm"/></intracellularProperties>
    </biophysicalProperties>
  </cell>
</neuroml>
"""


def hopf_points(model):
    found = special_points(model)
    assert found.complete
    return [p.I for p in found.points]


# NMODL ----------------------------------------------------------------------------------------------------------------


def test_an_axon_in_nmodl_has_the_known_hopf_points():
    model = from_nmodl(AXON, numbers=OUTSIDE)
    assert hopf_points(model) == pytest.approx(HOPF, abs=1e-10)
    assert model.values["gna"] == 120 and model.values["El"] == -54.3 and model.name == "squid"
    assert "gna is 1000*gnabar" in model.notes
    # The guarded quotient has become a function without a hole, and rates stay rates.
    m = model.gates[0].kinetics
    assert m.alpha is not None and "exprel" in repr(m.alpha) and "where" not in repr(m.alpha)
    here = {"V": -40.0, "celsius": 6.3}
    assert m.alpha.evaluate(**here) == 1.0
    # Warmer by ten degrees, gates are three times as fast, and the equilibria are where they were.
    warm = from_nmodl(AXON, numbers=OUTSIDE | {"celsius": 16.3})
    assert warm.gates[0].kinetics.alpha.evaluate(V=-30.0, celsius=16.3) == pytest.approx(
        3 * m.alpha.evaluate(V=-30.0, celsius=6.3)
    )


def test_parameters_of_a_file_take_other_values():
    model = from_nmodl(AXON, numbers=OUTSIDE | {"el": -54.387})
    assert hopf_points(model) == pytest.approx(hopf_points(load("hodgkin-huxley")), abs=1e-10)


def channel(body: str, more: str = "", head: str = "NONSPECIFIC_CURRENT i") -> str:
    """A mechanism of one gate n: `body` is BREAKPOINT's second line and what follows."""
    return f"""
NEURON {{ SUFFIX one {head} }}
PARAMETER {{ g = 0.005 (S/cm2) e = -80 (mV) vh = -30 (mV) k = 9 (mV) }}
ASSIGNED {{ v (mV) i (mA/cm2) ninf ntau (ms) w }}
STATE {{ n }}
BREAKPOINT {{ SOLVE states METHOD cnexp {body} }}
DERIVATIVE states {{ rates(v) n' = (ninf - n)/ntau }}
{more or "PROCEDURE rates(v (mV)) { ninf = 1/(1 + exp(-(v - vh)/k)) ntau = 2 }"}
"""


LEAK = Current("Na", 0.5, 50, [Gate("m", boltzmann(-20, 8), instantaneous=True)])


@pytest.mark.parametrize(
    ("body", "powers"),
    [("i = g*n^4*(v - e)", 4), ("i = g*n*n*(v - e)", 2), ("LOCAL open open = n^3 i = -open*g*(e - v)", 3)],
)
def test_currents_are_recognised_however_they_are_written(body, powers):
    model = from_nmodl(channel(body), currents=[LEAK])
    first = model.currents[0]
    assert (first.g, first.E, first.gates[0].power) == (pytest.approx(5), -80, powers)
    assert model.values["vh"] == -30 and model.values["gNa"] == 0.5


def test_numbers_keep_the_units_that_a_file_gives_them():
    plain = channel("i = g*n*(v - e)").replace("k = 9 (mV)", "k = 9")
    model = from_nmodl(plain, currents=[LEAK])
    assert (model.unit("vh"), model.unit("k"), model.unit("gNa")) == (" (mV)", " (model units)", " (mS/cm²)")
    assert model.with_(vh="-0.03 V").values["vh"] == -30
    again = from_sbml(to_sbml(load("morris-lecar")))
    assert (again.unit("V3"), again.unit("phi")) == (" (mV)", " (1/ms)")


@pytest.mark.parametrize(
    ("text", "unit"), [("mV", "mV"), ("/ms", "1/ms"), ("1/ms", "1/ms"), ("1", ""), ("S/cm2", "S/cm2"), ("degC", "degC")]
)
def test_a_file_s_units_are_renamed_and_never_converted(text, unit):
    assert as_written(text) == unit


def test_a_current_that_is_no_conductance_stays_a_formula():
    model = from_nmodl(channel("i = g*n*v*(1 - exp((e - v)/25))/(1 - exp(-v/25))"), currents=[LEAK])
    assert model.currents[0].formula is not None
    state = [-37.0, 0.3]
    flow = 5 * 0.3 * -37 * (1 - math.exp((-80 + 37) / 25)) / (1 - math.exp(37 / 25))
    sodium = 0.5 / (1 + math.exp(17 / 8)) * (-37 - 50)
    assert model.system(0.0)(state)[0] == pytest.approx(-(flow + sodium))


def test_gates_that_follow_at_once_and_branches_that_mean_something():
    more = """
    PROCEDURE rates(v (mV)) {
      w = 1/(1 + exp(-(v + 20)/8))
      ninf = 1/(1 + exp(-(v - vh)/k))
      if (v < -50 && v > -1000) { ntau = 4 } else if (!(v < 0)) { ntau = 1 } else { ntau = 2 }
    }"""
    model = from_nmodl(channel("i = g*w*n*(v - e)", more), currents=[LEAK])
    assert {(g.power, g.instantaneous) for g in model.currents[0].gates} == {(1, False), (1, True)}
    for v, tau in ((-60.0, 4), (-20.0, 2), (5.0, 1)):
        limit = 1 / (1 + math.exp(-(v + 30) / 9))
        assert model.system(0.0)([v, 0.25])[1] == pytest.approx((limit - 0.25) / tau)


def test_functions_that_choose_by_a_number_constants_of_nature_and_locals_of_the_file():
    more = """
    LOCAL shared
    UNITS { KB = (k) (joule/degC) E0 = (e) (coulombs) F = (faraday) (kilocoulombs) S = -1.5 (1) }
    FUNCTION rate(v (mV), i) (/ms) { v = v + 30 if (i == 0) { rate = .5*exp(v/20) } else if (i == 1) { rate = 2 } }
    PROCEDURE rates(v (mV)) { shared = rate(v, 0) ninf = shared/(shared + rate(v, 1))
      ntau = 1(/ms)/(shared + rate(v, 1))
      w = exp(S*(.001)*E0/KB/(273.15 + celsius)*F)
    }"""
    model = from_nmodl(channel("i = g*n*w*(v - e)", more), currents=[LEAK], numbers={"celsius": 6.3})
    alpha = 0.5 * math.exp(-10 / 20)
    assert model.system(0.0)([-40.0, 0.3])[1] == pytest.approx(alpha * 0.7 - 2 * 0.3)
    factor = math.exp(-1.5 * 1.602176634e-22 / 1.380649e-23 / 279.45 * 96.48533212331)
    assert model.values["g" + model.currents[0].name] == pytest.approx(5 * factor)


def test_several_files_make_one_membrane():
    sodium = channel("i = g*n^3*(v - e)", head="USEION na READ ena WRITE ina").replace("i = g", "ina = g").replace(
        "SUFFIX one", "SUFFIX fast").replace("(v - e)", "(v - ena)").replace("vh = -30", "vh = -25")  # fmt: skip
    model = from_nmodl(sodium, channel("i = g*n*(v - e)"), numbers={"ena": 55}, name="both")
    assert model.states == ("V", "n_fast", "n_one")
    assert (model.values["vh_fast"], model.values["vh_one"], model.values["Ena"]) == (-25, -30, 55)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (AXON, "line 50: celsius is read, and the file gives it no value"),
        (channel("VERBATIM x = 1; ENDVERBATIM i = 0"), r"line 6: VERBATIM \(C code\) is not supported"),
        (channel("i = g*n*(v - e)", head="POINT_PROCESS"), r"line 2: POINT_PROCESS \(a point process"),
        (channel("i = g*n*(v - e)", "KINETIC s { ~ a <-> b (1, 2) }"), "line 8: KINETIC .a kinetic scheme"),
        (channel("i = g*n*(v - e)", head="POINTER p NONSPECIFIC_CURRENT i"), "line 2: POINTER"),
        (channel("i = g*n*(v - e)", head="USEION ca WRITE cai"), "line 2: it writes cai, which is no current"),
        (channel("i = g*n*(v - x)"), "line 6: x is not declared"),
        (channel("i = g*n*(v - e)", "UNITS { h = (planck) (joule) }"), "line 8: the constant .planck. .joule. is not"),
        (channel("i = g*n*(v - e)*t"), "line 6: t in a formula"),
        (channel("i = g*n*(v - e"), "line 6: '\\)' is needed"),
        (channel("i = g*n*(v - e) while (1) { }"), "line 6: while is not supported"),
        (channel("i = g*n*(v - e)", "PROCEDURE rates(v) { n = n + 0.1 ntau = 1 }"), "line 8: the state n is set"),
        (channel("i = g*n*(v - e)", "PROCEDURE rates(v) { rates(v) }"), "calls itself without end"),
        (channel("i = g*n*(v - e)", "PROCEDURE rates(v, w) { ninf = 1 ntau = 1 }"), "line 7: rates takes 2"),
        (channel("i = g*n*(v - e)", "PROCEDURE rates(v) { ninf = erf(v) ntau = 1 }"), "there is no function or proc"),
        (channel("i = g*n*(v - e)", "FUNCTION f(x) { LOCAL a }\nPROCEDURE rates(v) { ninf = f(v) ntau = 1 }"),
         "the function f sets no value"),
        (channel("i = g*n*(v - e)").replace("SOLVE states METHOD cnexp", ""), "the state n has no equation"),
        (channel("w = g*n*(v - e)"), "line 2: the current i is never set"),
        (channel("i = g*n*(v - e)").replace("(ninf - n)/ntau", "n*(ninf - n)/ntau"), "not linear in n"),
        ("NEURON { SUFFIX a }", "has no BREAKPOINT"),
        (channel("i = g*n*(v - e)", "PROCEDURE rates(v) { ninf = 2 ntau = 1 }"), "must lie in \\[0, 1\\]"),
        (channel("i = g*n*(v - e)", "PROCEDURE rates(v) { ninf = 0.5 ntau = v }"), "tau of the gate n must be pos"),
    ],
)  # fmt: skip
def test_what_nmodl_says_beyond_that_is_refused_with_its_line(text, words):
    with pytest.raises(ValueError, match=words):
        from_nmodl(text, currents=[LEAK])


def test_numbers_that_no_file_reads_are_refused():
    with pytest.raises(ValueError, match="numbers gives 'EK', which no file reads"):
        from_nmodl(AXON, numbers=OUTSIDE | {"EK": -77})


# NeuroML --------------------------------------------------------------------------------------------------------------


def test_a_cell_in_neuroml_has_the_known_hopf_points():
    model = from_neuroml(CELL, temperature="6.3 degC")
    assert hopf_points(model) == pytest.approx(HOPF, abs=1e-10)
    assert (model.values["gnaChans"], model.values["forward_midpoint_m"], model.values["q10_m"]) == (120, -40, 1)
    assert model.with_({"m.forward_midpoint": "-0.041 V"}).values["forward_midpoint_m"] == -41
    assert from_neuroml(CELL, temperature=16.3).values["q10_m"] == 3


GATE = """<neuroml xmlns="http://www.neuroml.org/schema/neuroml2">
  <ionChannelHH id="leak"/>
  <ionChannelHH id="k"> {gate} </ionChannelHH>
  <cell id="one">
    <biophysicalProperties><membraneProperties>
      <channelDensity id="K" ionChannel="k" condDensity="5 mS_per_cm2" erev="-80 mV"/>
      <channelDensity id="L" ionChannel="leak" condDensity="1 mS_per_cm2" erev="50 mV"/>
      <specificCapacitance value="2 uF_per_cm2"/> {more}
    </membraneProperties></biophysicalProperties>
  </cell>
</neuroml>"""
STEADY = '<steadyState type="HHSigmoidVariable" rate="1" midpoint="-40 mV" scale="5 mV"/>'
TIME = '<timeCourse type="fixedTimeCourse" tau="0.002 s"/>'
RATES = (
    '<forwardRate type="HHExpRate" rate="0.3 per_ms" midpoint="-40 mV" scale="10 mV"/>'
    '<reverseRate type="HHSigmoidRate" rate="500 Hz" midpoint="-50 mV" scale="-8 mV"/>'
)


def cell(kind: str, parts: str, more: str = "") -> str:
    return GATE.format(gate=f'<{kind} id="n" instances="2">{parts}</{kind}>', more=more)


def own_rate(v):
    alpha, beta = 0.3 * math.exp((v + 40) / 10), 0.5 / (1 + math.exp((v + 50) / 8))
    return alpha, beta


@pytest.mark.parametrize(
    ("kind", "parts", "limit", "tau"),
    [
        ("gateHHrates", RATES, None, None),
        ("gateHHtauInf", STEADY + TIME, "steady", 2.0),
        ("gateHHratesTau", RATES + TIME, None, 2.0),
        ("gateHHratesInf", RATES + STEADY, "steady", None),
        ("gateHHratesTauInf", RATES + TIME + STEADY, "steady", 2.0),
        ("gateHHtauInf", STEADY + TIME + '<q10Settings type="q10Fixed" fixedQ10="4"/>', "steady", 0.5),
    ],
)
def test_each_kind_of_gate_moves_as_the_schema_says(kind, parts, limit, tau):
    v, n = -43.0, 0.3
    alpha, beta = own_rate(v)
    wanted = 1 / (1 + math.exp(-(v + 40) / 5)) if limit else alpha / (alpha + beta)
    time = tau or 1 / (alpha + beta)
    rate = from_neuroml(cell(kind, parts)).system(0.0)([v, n])
    assert rate[1] == pytest.approx((wanted - n) / time)
    assert rate[0] == pytest.approx(-(5 * n**2 * (v + 80) + (v - 50)) / 2)


def test_a_gate_that_follows_at_once():
    model = from_neuroml(cell("gateHHInstantaneous", STEADY))
    assert model.states == ("V",)


def test_includes_are_followed(tmp_path: Path):
    channels, rest = re.findall(r"<ionChannel.*</ComponentType>", CELL, re.S)[0], "<include href='channels.nml'/>"
    frame = '<neuroml xmlns="http://www.neuroml.org/schema/neuroml2">{}</neuroml>'
    (tmp_path / "channels.nml").write_text(frame.format(channels))
    (tmp_path / "cell.nml").write_text(CELL.replace(channels, rest))
    assert hopf_points(from_file(tmp_path / "cell.nml", {"temperature": "6.3"})) == pytest.approx(HOPF, abs=1e-10)
    (tmp_path / "channels.nml").unlink()
    with pytest.raises(FileNotFoundError, match=r"includes 'channels\.nml'"):
        from_neuroml(tmp_path / "cell.nml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CELL, "scales with the temperature, and none is given: temperature='6.3 degC'"),
        ("<neuroml><cell></neuroml>", "no XML"),
        ("?" + CELL, "no XML"),
        ("<sbml/>", "its root is <sbml>"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><neuroml/>", "declares XML entities"),
        ("<neuroml><izhikevichCell id='a'/></neuroml>", "no <cell>, only izhikevichCell"),
        (cell("gateKS", ""), "is a gateKS; these are read: gateHHrates"),
        (cell("gateHHtauInf", STEADY), "has no timeCourse"),
        (cell("gateHHtauInf", STEADY + TIME + RATES), "forwardRate, which is not supported"),
        (cell("gateHHtauInf", STEADY.replace("HHSigmoidVariable", "fancy") + TIME), "type 'fancy' is not supported"),
        (cell("gateHHtauInf", STEADY.replace("-40 mV", "-40 ms") + TIME), "is a time, and a potential in mV"),
        (cell("gateHHtauInf", STEADY.replace('"5 mV"', '"0 mV"') + TIME), "the scale of steadyState is 0 mV"),
        (cell("gateHHtauInf", STEADY + TIME, '<channelDensityGHK id="x"/>'), "channelDensityGHK 'x' is not supported"),
        (cell("gateHHtauInf", STEADY + TIME).replace('ionChannel="k"', 'ionChannel="q"'), "uses the channel 'q'"),
        (cell("gateHHtauInf", STEADY + TIME).replace("specificCap", "spikeThresh_"), "spikeThresh_"),
        (CELL.replace("<segment ", "<segment id='1'/><segment "), "has 2 segments"),
        (re.sub("<q10.*/>", "", CELL).replace("(v - mid", "(caConc - mid"), "unknown symbol 'caConc'"),
    ],
)  # fmt: skip
def test_what_neuroml_says_beyond_that_is_refused_by_name(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        from_neuroml(text)


@pytest.mark.parametrize(
    ("name", "set_"), [(n, s) for n in MODELS if n != "fitzhugh-nagumo" for s in SETS.get(n, (None,))]
)
def test_a_membrane_comes_back_from_neuroml(name, set_):
    model = load(name, set_)
    text = to_neuroml(model)
    again = from_neuroml(text, ranges={"a": (0, 1.02)} if name == "connor-stevens" else None)
    assert again.states == model.states
    random = np.random.default_rng(0)
    low, high = model.span
    for _ in range(5):
        state = [random.uniform(low, high), *random.uniform(0, 1, len(model.states) - 1)]
        assert again.system(7.5)(state) == pytest.approx(model.system(7.5)(state), rel=1e-9, abs=1e-9)
    # The order that the schema asks for.
    kinds = re.findall(r"^  <(\w+)", text, re.M)
    assert kinds == sorted(kinds, key=["ionChannelHH", "cell", "ComponentType"].index)


def test_rates_are_written_as_neuroml_knows_them():
    text = to_neuroml(load("hodgkin-huxley"))
    assert '<forwardRate type="HHExpLinearRate" rate="1.0 per_ms" midpoint="-40.0 mV" scale="10.0 mV" />' in text
    assert '<reverseRate type="HHExpRate" rate="4.0 per_ms" midpoint="-65.0 mV" scale="-18.0 mV" />' in text
    assert '<reverseRate type="HHSigmoidRate" rate="1.0 per_ms" midpoint="-35.0 mV" scale="10.0 mV" />' in text
    assert "ComponentType" not in text
    text = to_neuroml(load("izhikevich", "homoclinic"))
    assert '<timeCourse type="fixedTimeCourse" tau="0.152 ms" />' in text


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (load("fitzhugh-nagumo"), "has no units"),
        (Model([Current("K", formula="V^3"), Current("L", 1, -65)], window=(-90, 0)), "the current K is a formula"),
        (Model([Current("K", 1, -80, [Gate("n", steady("normal_cdf(V/9)", tau=1))]), LEAK]), "have no normal_cdf"),
        (Model([Current("K", 1, -80, [Gate("n", steady("where(V < 0, 0.2, 0.3)", tau=1))]), LEAK]), "have no"),
    ],
)
def test_what_neuroml_cannot_say_is_refused(model, words):
    with pytest.raises(UnsupportedModel, match=words):
        to_neuroml(model)


# SBML -----------------------------------------------------------------------------------------------------------------

OPTIONS = {
    "connor-stevens": {"ranges": {"a": (0, 1.02)}},
    "fitzhugh-nagumo": {"ranges": {"w": None}, "window": (-3, 3)},
}


@pytest.mark.parametrize(("name", "set_"), [(n, s) for n in MODELS for s in SETS.get(n, (None,))])
def test_a_membrane_comes_back_from_sbml(name, set_):
    pytest.importorskip("libsbml", reason="needs varphi[neurons]")
    model = load(name, set_)
    again = from_sbml(to_sbml(model), **OPTIONS.get(name, {}))
    assert again.states == model.states
    assert {n: again.values[n] for n in again.values if n in model.values} == pytest.approx(
        {n: model.values[n] for n in again.values if n in model.values}, rel=1e-14
    )
    random = np.random.default_rng(0)
    low, high = model.span
    for _ in range(5):
        state = [random.uniform(low, high), *random.uniform(0, 1, len(model.states) - 1)]
        assert again.system(7.5)(state) == pytest.approx(model.system(7.5)(state), rel=1e-9, abs=1e-9)
    kinds = [(len(c.gates), c.formula is None) for c in again.currents if c.formula is None]
    assert kinds == [(len(c.gates), True) for c in model.currents if c.formula is None]


def sbml(rates: dict[str, str], numbers: dict[str, float], rules: dict[str, str]) -> str:
    library = pytest.importorskip("libsbml", reason="needs varphi[neurons]")
    document = library.SBMLDocument(2, 4)
    model = document.createModel()
    model.setId("axon")
    for name in (*numbers, *rates, *rules):
        p = model.createParameter()
        p.setId(name)
        p.setValue(numbers.get(name, 0.1))
        p.setConstant(name in numbers)
    for name, formula in rules.items():
        rule = model.createAssignmentRule()
        rule.setVariable(name)
        rule.setMath(library.parseL3Formula(formula))
    for name, formula in rates.items():
        rule = model.createRateRule()
        rule.setVariable(name)
        rule.setMath(library.parseL3Formula(formula))
    return library.writeSBMLToString(document)


OLD_NUMBERS = {"Cm": 1.0, "g_Na": 120.0, "g_K": 36.0, "g_L": 0.3, "E_R": -65.0, "stim": 2.5}
OLD_RULES = {
    "E_Na": "E_R + 115", "E_K": "E_R - 12", "E_L": "E_R + 10.613", "V": "Vm - E_R",
    "am": "0.1*(25 - V)/(exp((25 - V)/10) - 1)", "bm": "4*exp(-V/18)", "ah": "0.07*exp(-V/20)",
    "bh": "1/(exp((30 - V)/10) + 1)", "an": "0.01*(10 - V)/(exp((10 - V)/10) - 1)", "bn": "0.125*exp(-V/80)",
    "iNa": "g_Na*m^3*h*(Vm - E_Na)", "iK": "g_K*n^4*(Vm - E_K)", "iL": "g_L*(Vm - E_L)",
}  # fmt: skip
OLD_RATES = {
    "Vm": "(stim - (iNa + iK + iL))/Cm", "m": "am*(1 - m) - bm*m", "h": "ah*(1 - h) - bh*h", "n": "an*(1 - n) - bn*n",
}  # fmt: skip


def test_the_axon_as_it_is_usually_written_is_recognised():
    model = from_sbml(sbml(OLD_RATES, OLD_NUMBERS, OLD_RULES))
    assert [(c.name, c.g, len(c.gates)) for c in model.currents] == [("Na", 120, 2), ("K", 36, 1), ("L", 0.3, 0)]
    assert "the file applies I = 2.5 µA/cm²" in model.notes and "ENa is E_R + 115" in model.notes
    assert hopf_points(model) == pytest.approx((9.775437995393, 154.522433665808), abs=1e-10)


def test_a_pulse_in_time_becomes_the_applied_current():
    rules = OLD_RULES | {"pulse": "piecewise(10, time > 5, 0)"}
    text = sbml(OLD_RATES | {"Vm": "(pulse - (iNa + iK + iL))/Cm"}, OLD_NUMBERS, rules)
    with pytest.raises(UnsupportedModel, match="depends on time; name the applied current"):
        from_sbml(text)
    assert hopf_points(from_sbml(text, applied="pulse"))[0] == pytest.approx(9.775437995393, abs=1e-10)


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ({"Vm": "1 - x", "x": "(Vm - x)*y", "y": "Vm - x*y"}, "which of Vm, x, y is the membrane potential"),
        ({"Vm": "1 - g_L*x*(Vm - E_R)", "x": "1 - x^2 + Vm"}, "the rate of change of x is not linear in x"),
        ({"Vm": "1 - g_L*x*(Vm - E_R) - g_K*(Vm + 20)", "x": "1 + Vm - x"}, "must lie in [0, 1]"),
        ({"Vm": "1 - g_L"}, "has no current that depends on it"),
    ],
)
def test_equations_that_are_no_membrane_are_refused(rates, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        from_sbml(sbml(rates, OLD_NUMBERS, {}))


def test_potentials_in_volts_are_refused():
    pytest.importorskip("libsbml", reason="needs varphi[neurons]")
    text = to_sbml(load("hodgkin-huxley"))
    volts = text.replace('<unit kind="volt" exponent="1" scale="-3"', '<unit kind="volt" exponent="1" scale="0"')
    with pytest.raises(UnsupportedModel, match=r"the potential V is in \(1 volt\)\^1; mV is needed"):
        from_sbml(volts)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "current"), [("hodgkin-huxley", 10.0), ("connor-stevens", 12.0), ("morris-lecar", 45.0)]
)
def test_roadrunner_runs_what_we_write(name, current):
    """Needs libroadrunner, which is no dependency."""
    roadrunner = pytest.importorskip("roadrunner", reason="libroadrunner is an oracle, not a dependency")
    model = load(name)
    runner = roadrunner.RoadRunner(to_sbml(model, current))
    runner.integrator.relative_tolerance, runner.integrator.absolute_tolerance = 1e-11, 1e-13
    runner.integrator.setValue("maximum_num_steps", 10**6)
    theirs = np.array(runner.simulate(0, 60, 601, ["time", *model.states]))
    ours = simulate(
        model.system(current), 60.0, theirs[0, 1:], times=theirs[:, 0], rtol=1e-11, atol=1e-13, progress=False
    )
    assert ours.states[0] == pytest.approx(theirs[:, 1:], abs=1e-4)
    assert np.ptp(theirs[:, 1]) > 20


# What is recognised ---------------------------------------------------------------------------------------------------

NAMES = {"V", "m", "h", "a", "b", "k", "g", "E", "tau", "alpha", "beta", "minf"}


def formula(text):
    return read(text, NAMES.__contains__, "names")


QUOTIENTS = {
    text: formula(text)
    for text in (
        "k*(V - a)/(1 - exp(-(V - a)/b))",
        "k*(a - V)/(exp((a - V)/b) - 1)",
        "where(abs((V - a)/b) < 1e-6, k*b*(1 + (V - a)/b/2), k*(V - a)/(1 - exp((a - V)/b)))",
        "k/(1 + exp((V - a)/b))",
        "(exp((V - a)/b) - 1)/(k*(V - a))",
    )
}


@settings(max_examples=15)
@given(
    a=st.floats(-60, 20), b=st.floats(2, 30), k=st.floats(0.01, 5), v=st.floats(-90, 60), sign=st.sampled_from([1, -1])
)
def test_a_quotient_with_a_hole_is_the_same_function_without_it(a, b, k, v, sign):
    b = sign * b
    values = {"a": a, "b": b, "k": k}
    for text, written in QUOTIENTS.items():
        found = stable(written, values)
        assert "where" not in repr(found)
        assert math.isfinite(found.evaluate(V=a, **values))
        if abs(v - a) > 1e-2:
            assert found.evaluate(V=v, **values) == pytest.approx(written.evaluate(V=v, **values), rel=1e-9), text


def test_a_guard_that_says_something_else_stays():
    found = stable(formula("where(V == 0, 5, V/(1 - exp(-V)))"), {})
    assert found.evaluate(V=0.0) == 5
    # Two zeros that lie beside each other are no hole.
    beside = stable(formula("(V - a)/(1 - exp(-(V - b)))"), {"a": 1.0, "b": 1.0})
    assert "exprel" not in repr(beside)


@pytest.mark.parametrize(
    ("text", "limit", "tau"),
    [
        ("alpha*(1 - m) - beta*m", 0.3 / 0.7, 1 / 0.7),
        ("alpha - (alpha + beta)*m", 0.3 / 0.7, 1 / 0.7),
        ("(minf - m)/tau", 0.9, 2.0),
        ("k*(minf - m)/tau", 0.9, 0.5),
        ("-(m - minf)/tau", 0.9, 2.0),
        ("(alpha/(alpha + beta) - m)*(alpha + beta)*k", 0.3 / 0.7, 1 / 2.8),
        ("(beta/(alpha + beta) - m)/tau", 0.4 / 0.7, 2.0),
    ],
)
def test_a_rate_linear_in_its_gate_becomes_kinetics(text, limit, tau):
    values = {"alpha": 0.3, "beta": 0.4, "minf": 0.9, "tau": 2.0, "k": 4.0}

    def number(e):
        return float(e.evaluate(**{n: values[n] for n in e.variables}))

    found = kinetics(formula(text), "m")
    if found.alpha is not None:
        assert number(found.alpha) / (number(found.alpha) + number(found.beta)) == pytest.approx(limit)
        assert 1 / (number(found.alpha) + number(found.beta)) == pytest.approx(tau)
    else:
        assert (number(found.steady), number(found.tau)) == (pytest.approx(limit), pytest.approx(tau))


def test_what_is_no_conductance_is_none():
    for text in ("g*(V - E)*(V - k)", "g*m/(V - E)", "g*(V - m)", "g*h^-1*(V - E)"):
        assert conductance(formula(text), ("m", "h")) is None
    found = conductance(formula("g*m*m*h*(E - V)*k"), ("m", "h"))
    assert found is not None and found.powers == {"m": 2, "h": 1}
    assert found.g.evaluate(g=2, k=3) == -6


@settings(max_examples=25)
@given(v=st.floats(-5, 5), k=st.floats(0.1, 3))
def test_formulas_mean_the_same_to_libsbml(v, k):
    """Each function that SBML's mathematics has no word for, read back."""
    library = pytest.importorskip("libsbml", reason="needs varphi[neurons]")
    from varphi.dynamics.sbml import read_sbml

    del library
    texts = [
        "sigmoid(V)", "exprel(V)", "expm1(V)", "softplus(V)", "sech(V)", "tanh(V)", "max(V, k)", "min(V, k)",
        "squareplus(V, k)", "where(V < k, V^2, -V^2)", "-(V - k)^2/(k - (V - k))", "2^-k*V", "V - (k - V) - -k",
        "atan(V)", "abs(V)", "log1p(V^2)", "tanhshrink(V)", "explinear(V)", "log_sigmoid(V)", "(V/k)/(V^2 + k/3)",
        "sqrt(k)*V**3", "(-V)^2",
    ]  # fmt: skip
    for text in texts:
        e = formula(text)
        back = read_sbml(sbml({"V": sbml_formula(e)}, {"k": k}, {})).rates["V"]
        assert back.evaluate(V=v, **{n: k for n in back.variables - {"V"}}) == pytest.approx(
            e.evaluate(V=v, **{n: k for n in e.variables - {"V"}}), rel=1e-9, abs=1e-12
        ), text


def test_what_is_no_sbml_is_refused():
    pytest.importorskip("libsbml", reason="needs varphi[neurons]")
    with pytest.raises(ValueError, match=r"not valid SBML|not SBML"):
        from_sbml("/" + to_sbml(load("morris-lecar")))


@pytest.mark.nightly
@pytest.mark.parametrize("format", ["NMODL", "NeuroML", "SBML"])
def test_broken_files_are_refused_in_words(format):
    """Thousands of texts with a few words lost, doubled or exchanged: a membrane or a ValueError, nothing else."""
    pytest.importorskip("libsbml", reason="needs varphi[neurons]")
    whole, read_ = {
        "NMODL": (AXON, lambda t: from_nmodl(t, numbers=OUTSIDE)),
        "NeuroML": (CELL, lambda t: from_neuroml(t, temperature=6.3)),
        "SBML": (to_sbml(load("hodgkin-huxley")), from_sbml),
    }[format]
    words = re.findall(r"\w+|\s+|[^\w\s]", whole)
    random, outcomes = np.random.default_rng(7), set()
    for _ in range(1500):
        text = list(words)
        for _ in range(random.integers(1, 4)):
            i, j = random.integers(0, len(text), 2)
            match random.integers(0, 4):
                case 0:
                    del text[i]
                case 1:
                    text[i] = words[j % len(words)]
                case 2:
                    text.insert(i, words[j % len(words)])
                case _:
                    text[i], text[j] = text[j], text[i]
        try:
            outcomes.add(type(read_("".join(text))))
        except ValueError as refusal:
            assert str(refusal)
            outcomes.add(ValueError)
    assert outcomes == {Model, ValueError}


def test_what_sbml_cannot_say_is_refused():
    with pytest.raises(UnsupportedModel, match="has no erf"):
        sbml_formula(formula("erf(V)"))


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_file_is_told_by_what_is_in_it(tmp_path: Path):
    pytest.importorskip("libsbml", reason="needs varphi[neurons]")
    (tmp_path / "axon.mod").write_text(AXON)
    (tmp_path / "axon.xml").write_text(to_sbml(load("hodgkin-huxley")))
    (tmp_path / "other.xml").write_text("<html/>")
    mod = from_file(tmp_path / "axon.mod", {"ena": "50", "ek": "-77", "celsius": "6.3"})
    assert mod.states == ("V", "m", "h", "n") and mod.source == "NMODL, axon.mod"
    assert from_file(tmp_path / "axon.xml").states == ("V", "m", "h", "n")
    with pytest.raises(ValueError, match="neither NMODL"):
        from_file(tmp_path / "other.xml")
    with pytest.raises(ValueError, match="SBML takes voltage and applied, not 'ena'"):
        from_file(tmp_path / "axon.xml", {"ena": 1})
    with pytest.raises(ValueError, match="ena is a number in the file's own unit, got 'x'"):
        from_file(tmp_path / "axon.mod", {"ena": "x"})
