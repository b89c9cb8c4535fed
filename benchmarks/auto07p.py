"""AUTO-07p as a peer and an oracle: writes a system as Fortran, compiles it, runs branches of equilibria and cycles.

Needs Debian's packages auto-07p and gfortran; `missing` says what is not there.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

LIBRARY = Path("/usr/lib/auto-07p/lib")
_TYPES = {2: "fold", 3: "hopf", 5: "fold of cycles", 7: "period doubling"}
HODGKIN_HUXLEY = (
    """
V=U(1); M=U(2); H=U(3); N=U(4); X=(V+40)/10; Y=(V+55)/10
F(1)=PAR(1)-120*M**3*H*(V-50)-36*N**4*(V+77)-0.3D0*(V+54.387D0)
F(2)=X/(1-EXP(-X))*(1-M)-4*EXP(-(V+65)/18)*M
F(3)=0.07D0*EXP(-(V+65)/20)*(1-H)-H/(1+EXP(-(V+35)/10))
F(4)=0.1D0*Y/(1-EXP(-Y))*(1-N)-0.125D0*EXP(-(V+65)/80)*N
""",
    [-64.99972, 0.05293, 0.59612, 0.31768],
)


def morris_lecar(
    v3: float, v4: float, phi: float, gca: float, start: list[float] | None = None
) -> tuple[str, list[float]]:
    """Morris–Lecar as Fortran, and a rest at I = 0, by default that of V3 = 2 and V4 = 30."""
    return (
        f"""
V=U(1); M=0.5D0*(1+TANH((V+1.2D0)/18)); X=(V-({v3!r}D0))/{v4!r}D0
F(1)=(PAR(1)-{gca!r}D0*M*(V-120)-8*U(2)*(V+84)-2*(V+60))/20
F(2)={phi!r}D0*(0.5D0*(1+TANH(X))-U(2))*COSH(X/2)
""",
        start or [-60.85456779, 0.0149139691],
    )


def missing() -> str | None:
    """What is not installed; None if nothing is missing."""
    if not (LIBRARY / "main.o").exists():
        return "AUTO-07p is not installed (Debian: auto-07p)"
    return None if shutil.which("gfortran") else "gfortran is not installed"


@dataclass
class Branch:
    """What AUTO printed.

    Attributes:
        points: (type, label, values): of ordinary points the type is "".
        seconds: CPU time of the program alone.
    """

    points: list[tuple[str, int, list[float]]]
    solutions: str = field(repr=False)
    seconds: float

    def of(self, kind: str) -> list[list[float]]:
        """The values at special points of a kind, repetitions left out."""
        found: list[list[float]] = []
        for what, _, values in self.points:
            if what == kind and all(abs(values[0] - f[0]) > 1e-6 for f in found):
                found.append(values)
        return found


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Program:
    """A system compiled against AUTO's library.

    Args:
        equations: Fortran that sets F from U and PAR; all names in it are double precision.
        start: an equilibrium at PAR(1) = 0.
        folder: where to build and run it.
    """

    def __init__(self, equations: str, start: list[float], folder: Path) -> None:
        self.folder, self.states = folder, len(start)
        values = "\n".join(f"U({k})={v!r}D0" for k, v in enumerate(start, 1))
        source = f"""
SUBROUTINE FUNC(NDIM,U,ICP,PAR,IJAC,F,DFDU,DFDP)
IMPLICIT DOUBLE PRECISION (A-H,M-Z)
INTEGER NDIM,ICP(*),IJAC
DOUBLE PRECISION U(NDIM),PAR(*),F(NDIM),DFDU(NDIM,NDIM),DFDP(NDIM,*)
{equations}
END SUBROUTINE
SUBROUTINE STPNT(NDIM,U,PAR,T)
INTEGER NDIM
DOUBLE PRECISION U(NDIM),PAR(*),T
PAR(1)=0
{values}
END SUBROUTINE
""" + "".join(f"SUBROUTINE {name}\nEND SUBROUTINE\n" for name in ("BCND", "ICND", "FOPT", "PVLS"))
        (folder / "model.f90").write_text(source, "ascii")
        objects = sorted(map(str, LIBRARY.glob("*.o")))
        subprocess.run(
            ["gfortran", "-O2", "-fopenmp", "-o", "model", "model.f90", *objects], cwd=folder, check=True,
            capture_output=True,
        )  # fmt: skip

    def run(self, before: Branch | None = None, **constants: object) -> Branch:
        """One run with these constants, from a label of the run before."""
        usual: dict[str, object] = {
            "NDIM": self.states, "IPS": 1, "IRS": 0, "ILP": 1, "ICP": "[1]", "NTST": 100, "NCOL": 4, "IAD": 3, "ISP": 2,
            "ISW": 1, "IPLT": 0, "NBC": 0, "NINT": 0, "NMX": 4000, "RL0": -50.0, "RL1": 250.0, "A0": -1e9, "A1": 1e9,
            "NPR": 100000, "MXBF": 0, "IID": 0, "ITMX": 9, "ITNW": 7, "NWTN": 3, "JAC": 0, "EPSL": 1e-10, "EPSU": 1e-10,
            "EPSS": 1e-8, "DS": 0.1, "DSMIN": 1e-7, "DSMAX": 0.5, "IADS": 1, "THL": "{11: 0.0}", "STOP": "[]",
        }  # fmt: skip
        for name in ("fort.3", "fort.7", "fort.8", "fort.9"):
            (self.folder / name).unlink(missing_ok=True)
        (self.folder / "fort.2").write_text("".join(f"{k}={v}\n" for k, v in {**usual, **constants}.items()), "ascii")
        (self.folder / "fort.3").write_text(before.solutions if before else "", "ascii")
        begin = _children()
        subprocess.run(
            ["./model"], cwd=self.folder, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        seconds = _children() - begin
        points = []
        for line in (self.folder / "fort.7").read_text("ascii").splitlines():
            words = line.split()
            if words and words[0] != "0":
                points.append((_TYPES.get(abs(int(words[2])) % 10, ""), int(words[3]), [float(w) for w in words[4:]]))
        return Branch(points, (self.folder / "fort.8").read_text("ascii"), seconds)

    def cycles(self, equilibria: Branch, *, folds: int, steps: float = 5.0, intervals: int = 100) -> Branch:
        """The cycles of the first Hopf point, until so many folds."""
        label = next(label for what, label, _ in equilibria.points if what == "hopf")
        return self.run(
            equilibria, IPS=2, IRS=label, ICP="[1,11]", NMX=1000, NTST=intervals, DSMAX=steps, STOP=f"['LP{folds}']"
        )
