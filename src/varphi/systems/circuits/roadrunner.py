"""Models that libroadrunner simulates, where the user asks for that: what is refused here may be no trouble there."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from varphi.dynamics.sbml import sbml_text


@dataclass(frozen=True)
class Courses:
    """Time courses of named quantities.

    Attributes:
        times: when.
        names: of species (their concentrations), compartments and parameters that change.
        values: of each.
    """

    times: Float[np.ndarray, " times"]
    names: tuple[str, ...]
    values: Float[np.ndarray, "times names"]

    def state(self, name: str) -> Float[np.ndarray, " times"]:
        """One quantity.

        Raises:
            ValueError: for an unknown name.
        """
        if name not in self.names:
            raise ValueError(f"no {name!r}; there are {', '.join(self.names)}")
        return self.values[:, self.names.index(name)]


@dataclass(frozen=True)
class RoadrunnerModel:
    """A model in libroadrunner: time courses, and nothing else.

    Attributes:
        text: its SBML.
    """

    text: str = field(repr=False)

    @staticmethod
    def read(source: str | Path) -> RoadrunnerModel:
        """A model from SBML, a file or the text.

        Raises:
            ImportError: the package libroadrunner is missing.
            FileNotFoundError: no such file.
            ValueError: what is no SBML, or what libroadrunner cannot read, in its words.
        """
        model = RoadrunnerModel(sbml_text(source)[0])
        model._runner()
        return model

    def _runner(self) -> Any:
        try:
            library = importlib.import_module("roadrunner")
        except ImportError:
            raise ImportError(
                "the engine 'roadrunner' needs the package libroadrunner: pip install libroadrunner==2.10.0"
            ) from None
        try:
            return library.RoadRunner(self.text)
        except RuntimeError as error:
            raise ValueError(f"libroadrunner cannot read this model: {error}") from None

    def simulate(
        self, times: Any, *, parameters: Mapping[str, float] | None = None, rtol: float = 1e-8, atol: float = 1e-12
    ) -> Courses:
        """Time courses from the model's start.

        Args:
            times: evenly spaced, from 0 on.
            parameters: values other than the model's.
            rtol, atol: of its solver.

        Raises:
            ValueError: other times, or names that the model has not.
        """
        wanted = np.asarray(times, float)
        if wanted.ndim != 1 or wanted.size < 2 or wanted[0] != 0 or np.ptp(np.diff(wanted)) > 1e-9 * wanted[-1]:
            raise ValueError("the engine 'roadrunner' takes two or more evenly spaced times from 0 on")
        runner = self._runner()
        runner.integrator.relative_tolerance, runner.integrator.absolute_tolerance = rtol, atol
        for name, value in (parameters or {}).items():
            if name not in runner.getIds():
                raise ValueError(f"the model has no {name!r}")
            runner[name] = value
        model = runner.model
        species = [*model.getFloatingSpeciesIds(), *model.getBoundarySpeciesIds()]
        others = [*model.getCompartmentIds(), *model.getGlobalParameterIds()]
        runner.timeCourseSelections = ["time", *(f"[{s}]" for s in species), *others]
        found = np.array(runner.simulate(0, float(wanted[-1]), len(wanted)))
        return Courses(wanted, (*species, *others), found[:, 1:])
