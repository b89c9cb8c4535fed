"""A gene circuit written as text: does it make a pulse, how robustly, and what decides? In Antimony, 20 lines.

Run: python examples/circuits.py      (a few seconds; needs pip install 'varphi[circuits]')
"""

from pathlib import Path
from tempfile import gettempdir

from varphi.systems.circuits import Range, sampled
from varphi.systems.circuits.antimony import from_antimony
from varphi.systems.circuits.figures import parameter_map, time_course

model = from_antimony("""
  species $X, Y, Z;  X = 0; Y = 0; Z = 0;
  J1: => Y; by*X^n/(Kxy^n + X^n);                     J2: Y => ; ay*Y;
  J3: => Z; bz*X^n/(Kxz^n + X^n) * 1/(1 + (Y/Kyz)^n);  J4: Z => ; az*Z;
  by = 1; ay = 1; bz = 1; az = 1; Kxy = 0.1; Kxz = 0.1; Kyz = 0.5; n = 2;
""")
for law in model.hill_laws:
    print(law)
answer = model.respond(("X", 0.0, 1.0), "Z", horizon=20.0)
print(answer.pulses()[0])
time_course(answer).savefig(Path(gettempdir()) / "pulse.svg")

sets = sampled({"Kyz": Range(0.01, 10), "ay": Range(0.1, 10)}, 4000)
pulses = model.respond(("X", 0.0, 1.0), "Z", 200.0, parameters=sets).pulses()
print(f"{pulses.present.mean():.0%} of {len(pulses.present)} parameter sets make a pulse")
drawing = parameter_map(("Kyz", sets["Kyz"]), ("ay", sets["ay"]), pulses.amplitude, "pulse amplitude")
drawing.savefig(Path(gettempdir()) / "map.svg")
