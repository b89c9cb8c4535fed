"""A gene circuit written as text: does it make a pulse, how robustly, and how must it be changed to make another?

Run: python examples/circuits.py      (half a minute; needs pip install 'varphi[circuits]')
"""

from pathlib import Path
from tempfile import gettempdir

from varphi.systems.circuits import Circuit, Range, design, sampled
from varphi.systems.circuits.figures import parameter_map, time_course

folder = Path(gettempdir())
circuit = Circuit.from_antimony("""
  species $X, Y, Z;  X = 0; Y = 0; Z = 0;
  J1: => Y; by*X^n/(Kxy^n + X^n);                     J2: Y => ; ay*Y;
  J3: => Z; bz*X^n/(Kxz^n + X^n) * 1/(1 + (Y/Kyz)^n);  J4: Z => ; az*Z;
  by = 1; ay = 1; bz = 1; az = 1; Kxy = 0.1; Kxz = 0.1; Kyz = 0.5; n = 2;
""")
for source, target, sign in circuit.edges:
    print(source, "activates" if sign > 0 else "represses", target)
answer = circuit.respond(("X", 0.0, 1.0))
print(answer.pulses()[0])
time_course(answer).savefig(folder / "pulse.svg")

sets = sampled({"Kyz": Range(0.01, 10), "ay": Range(0.1, 10)}, 4000)
pulses = circuit.respond(("X", 0.0, 1.0), parameters=sets).pulses()
print(f"{pulses.present.mean():.0%} of {len(pulses.present)} parameter sets make a pulse")
drawing = parameter_map(("Kyz", sets["Kyz"]), ("ay", sets["ay"]), pulses.amplitude, "pulse amplitude")
drawing.savefig(folder / "map.svg")

slopes = answer.gradients(["K_Y_Z", "alpha_Y"], ["peak", "time of peak"])
print("the peak grows by", slopes["peak"].of("K_Y_Z")[0], "for each unit of Kyz")

wanted = {"peak": 2.0, "peak/final": 5.0, "time of peak": 1.0}
free = {name: Range(0.05, 20) for name in ("ay", "az", "by", "bz", "Kxy", "Kxz", "Kyz")}
found = design(circuit, wanted, free, ("X", 0.0, 1.0), seconds=1.5)
print("meets the specification:", found.meets(), "- found by the", found.winner, "search")
print({name: round(value, 4) for name, value in found.verified.items()})
