"""Answers to VNN-LIB properties of ONNX models, in the words of VNN-COMP: unsat, sat, timeout, unknown.

`unsat` is a proof for every real input of the property's boxes, and with "sound32" also for the model as it runs in
float32. `sat` comes with a counterexample that has been run again: an input of the model's own format whose output, as
the model computes it and as it is in float64, meets every constraint as written. What violates a property only by
rounding is no counterexample.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn

from .api import bounds
from .arithmetic import Name
from .attack import Inside, Objective, search
from .deadline import OutOfTime, in_time, until
from .nodes import UncertifiedOperation
from .onnx import OnnxModel, read_onnx
from .splitting import Halfspaces, Progress, Verdict, decide
from .vnnlib import Case, Constraint, Property, read_vnnlib

Result: TypeAlias = Literal["unsat", "sat", "timeout", "unknown"]
# Boxes bounded together before they are decided one by one.
_TOGETHER = 64
# Each of several boxes is tried for such a share of the time left to all before any gets the rest.
_FIRST_SHARE = 0.5
_EXACT = {torch.float32: 2**24, torch.float64: 2**53}


class Counterexample(NamedTuple):
    """An input and the model's output there, that meet a property's assertions.

    Attributes:
        inputs, outputs: flat, in the model's format.
        checked: what computed the outputs.
    """

    inputs: np.ndarray[Any, Any]
    outputs: np.ndarray[Any, Any]
    checked: str


@dataclass(frozen=True)
class Answer:
    """What is known about a property.

    Attributes:
        result: "unsat": no input of the boxes has an unsafe output. "sat": one has. "timeout": open.
            "unknown": open, and more time would not help.
        counterexample: if sat.
        arithmetic: the rounding that was paid for.
        regions: how many parts of the boxes were bounded.
        seconds: of wall time.
        reason: of "unknown", or of a "timeout" while files were read.
    """

    result: Result
    counterexample: Counterexample | None
    arithmetic: str
    regions: int
    seconds: float
    reason: str = ""


def verify(
    model: str | Path | OnnxModel,
    property: str | Path | Property,
    *,
    timeout: float = 60,
    arithmetic: Name | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Answer:
    """Whether a model can violate a property.

    Args:
        model: an ONNX file, .onnx or .onnx.gz.
        property: a VNN-LIB file, .vnnlib or .vnnlib.gz.
        timeout: seconds of wall time, reading included.
        arithmetic: as in `bounds`. By default sound in the model's own format; in float64 where float32 cannot hold
            the property's coefficients.
        seed: of the attack's starts.
        progress: called now and then with the regions bounded, those open, and the least bound of these.

    Returns:
        An answer; its `result` is VNN-COMP's word.

    Raises:
        ImportError, FileNotFoundError, ValueError, UncertifiedOperation: as `load_onnx`, `read_vnnlib` and `bounds`;
            or for a property of another number of inputs or outputs.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ValueError(f"timeout must be a number of seconds > 0, got {timeout!r}")
    begin = time.monotonic()
    try:
        with until(begin + timeout):
            asked = property if isinstance(property, Property) else read_vnnlib(property)
            read = model if isinstance(model, OnnxModel) else read_onnx(model)
            check_fits(read, asked)
            return Verification(read, asked, begin + timeout, arithmetic, seed, progress).answer(begin)
    except OutOfTime:
        return unread(begin, arithmetic)


def unread(begin: float, arithmetic: Name | None) -> Answer:
    """The answer where the time was over before the question was known."""
    seconds = time.monotonic() - begin
    return Answer("timeout", None, arithmetic or "", 0, seconds, "the time was over while the files were read")


def check_fits(model: OnnxModel, asked: Property) -> None:
    """Raise unless a property is of the model's numbers of inputs and outputs, and of its format."""
    for word, wanted, has in (
        ("inputs", asked.inputs, math.prod(model.shape)),
        ("outputs", asked.outputs, math.prod(model.output)),
    ):
        if wanted != has:
            raise ValueError(f"the property is of {wanted} {word} and the model has {has}")
    own = str(model.dtype).removeprefix("torch.")
    for tensor in asked.tensors or ():
        if tensor.element.lower() not in ("real", own):
            raise ValueError(
                f"the property declares {tensor.name} of {tensor.element} and the model is of {own}: declare it of "
                f"{own} or real"
            )


class Verification:
    """One question and the time for it."""

    def __init__(
        self,
        read: OnnxModel,
        asked: Property,
        deadline: float,
        arithmetic: Name | None,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self.read, self.asked, self.deadline, self.seed, self.progress = read, asked, deadline, seed, progress
        constraints = [c for case in in_time(asked.cases) for part in case.unsafe for c in part]
        self.mixed = any(kind == "X" for c in constraints for kind, _ in c.terms)
        self.model: nn.Module = with_inputs(read.model) if self.mixed else read.model
        self.width = asked.outputs + (asked.inputs if self.mixed else 0)
        self.arithmetic: Name = arithmetic or self._arithmetic(constraints)
        self.checker = Checker(read)
        self.settled = self.regions = 0  # in questions that are closed; and in the open one too
        self.doubt = ""

    def _arithmetic(self, constraints: Sequence[Constraint]) -> Name:
        largest = max((abs(n) for c in in_time(constraints) for n in whole(c).values()), default=1)
        fits = self.read.dtype == torch.float32 and largest <= _EXACT[torch.float32]
        return "sound32" if fits else "float64"

    def answer(self, begin: float) -> Answer:
        result, found = self._decided()
        seconds = time.monotonic() - begin
        return Answer(result, found, self.arithmetic, self.regions, seconds, self.doubt if result == "unknown" else "")

    def _decided(self) -> tuple[Result, Counterexample | None]:
        try:
            with until(self.deadline):
                self._compare()
                if any(() in case.unsafe for case in self.asked.cases):
                    return self._anything()
                return self._searched(list(self.asked.cases))
        except OutOfTime:
            return "timeout", None

    def _compare(self) -> None:
        """Refuse where onnxruntime gives other outputs than the model as it was read, at an input of two boxes.

        Bounds at a single input hold for every way to run the model in its format, but for a little that is granted to
        convolutions by fast algorithms.
        """
        if self.checker.runtime is None:
            return
        for case in {id(c): c for c in (self.asked.cases[0], self.asked.cases[-1])}.values():
            x = Inside.of(self.read.model, self._box(case), None, math.inf).centre
            lower, upper = (t.flatten().double().numpy() for t in bounds(self.read.model, x, 0.0, method="ibp"))
            y = self.checker.outputs(x.flatten().numpy()).astype(np.float64)
            slack = 1e-4 * (1 + np.abs(y).max())
            if not bool(((lower - slack <= y) & (y <= upper + slack)).all()):
                raise UncertifiedOperation(
                    f"the model as it was read gives other outputs than {self.checker.name}, which is a defect of "
                    f"varphi's reader: {y[:4].tolist()} are not in {lower[:4].tolist()} to {upper[:4].tolist()}"
                )

    def _searched(self, cases: list[Case]) -> tuple[Result, Counterexample | None]:
        """An attack on every case, one pass over all, then a search through what is left: each some time, then all."""
        for first in range(0, len(cases), _TOGETHER):
            found = self._attacked(cases[first : first + _TOGETHER], starts=8, steps=40)
            if found is not None:
                return "sat", found
        open_ = self._unproved(cases)
        for share in (_FIRST_SHARE, 1.0) if len(open_) > 1 else (1.0,):
            left: list[Case] = []
            for i, case in enumerate(open_):
                seconds = (self.deadline - time.monotonic()) * (share / (len(open_) - i) if share < 1 else 1.0)
                verdict = self._decide(case, max(seconds, 1e-3))
                if verdict.status == "timeout":
                    left.append(case)
                if verdict.status == "violated":
                    found = self._confirmed(verdict, case)
                    if found is not None:
                        return "sat", found
            open_ = left
        if open_:
            return "timeout", None
        return ("unknown" if self.doubt else "unsat"), None

    def _anything(self) -> tuple[Result, Counterexample | None]:
        """The answer where some box has no constraint on the outputs: any input of it will do."""
        for case in self.asked.cases:
            middle = Inside.of(self.model, self._box(case), None, math.inf).centre
            found = self._checked(middle, case) if () in case.unsafe else None
            if found is not None:
                return "sat", found
        self.doubt = "the model gives NaN or inf where the property asks nothing of its outputs"
        return "unknown", None

    def _decide(self, case: Case, seconds: float) -> Verdict:
        verdict = decide(
            self.model,
            self._box(case),
            unsafe=[self._halfspaces(part) for part in case.unsafe],
            timeout=seconds,
            arithmetic=self.arithmetic,
            seed=self.seed,
            progress=self._told,
        )
        self.settled = self.regions = self.settled + verdict.regions
        return verdict

    def _told(self, regions: int, open_: int, least: float) -> None:
        self.regions = self.settled + regions
        if self.progress is not None:
            self.progress(self.regions, open_, least)

    # ---------------------------------------------------------------------------------------- boxes together

    def _unproved(self, cases: list[Case]) -> list[Case]:
        """What one pass over all cases does not settle: cases with the parts of their unsafe sets that are open."""
        left: list[Case] = []
        for first in range(0, len(cases), _TOGETHER):
            turn = cases[first : first + _TOGETHER]
            for case, safe in zip(turn, self._safe(turn), strict=True):
                parts = tuple(part for part, proved in zip(case.unsafe, safe, strict=True) if not proved)
                left += [replace(case, unsafe=parts)] if parts else []
            self.settled = self.regions = self.settled + len(turn)
            if self.progress is not None:
                self.progress(self.regions, len(left) + len(cases) - first - len(turn), math.nan)
        return left

    def _safe(self, cases: list[Case]) -> list[list[bool]]:
        """Whether each part of each case is proved not to occur."""
        parts = [[self._halfspaces(part) for part in case.unsafe] for case in cases]
        spec = _stacked([torch.cat([h.rows for h in own]) for own in parts])
        lower = bounds(self.model, self._boxes(cases), spec=spec, arithmetic=self.arithmetic).lower.double()
        safe = []
        for own, least in zip(parts, lower, strict=True):
            ends = list(itertools.accumulate(len(h.rows) for h in own))
            pairs = zip(own, [0, *ends], ends, strict=False)
            safe.append([bool((least[start:end] > h.limits).any()) for h, start, end in pairs])
        return safe

    # ---------------------------------------------------------------------------------------- floats

    def _box(self, case: Case) -> tuple[Tensor, Tensor]:
        """The corners, (1, ...) in float64, rounded outward.

        An interval that holds no number of the model's format is widened to the nearest one: that is what a model can
        be given for it.
        """
        lower, upper = case.corners()
        own = np.float32 if self.read.dtype == torch.float32 else np.float64
        low, high = _inner(lower, own, up=True), _inner(upper, own, up=False)
        nearest = (lower + (upper - lower) / 2).astype(own).astype(np.float64)
        lower = np.where(low > high, np.minimum(lower, nearest), lower)
        upper = np.where(low > high, np.maximum(upper, nearest), upper)
        shape = (1, *self.read.shape)
        return torch.from_numpy(lower).view(shape), torch.from_numpy(upper).view(shape)

    def _boxes(self, cases: Sequence[Case]) -> tuple[Tensor, Tensor]:
        boxes = [self._box(case) for case in cases]
        return torch.cat([lower for lower, _ in boxes]), torch.cat([upper for _, upper in boxes])

    def _halfspaces(self, part: Sequence[Constraint]) -> Halfspaces:
        rows = torch.zeros(len(part), self.width, dtype=torch.float64)
        limits = torch.zeros(len(part), dtype=torch.float64)
        for i, constraint in enumerate(part):
            scaled = whole(constraint)
            (variable, coefficient), *_ = scaled.items()
            limit = constraint.limit * coefficient / constraint.terms[variable]
            limits[i] = _up(limit)
            for (kind, place), number in scaled.items():
                rows[i, place + (self.asked.outputs if kind == "X" else 0)] = number
        return Halfspaces(rows, limits)

    # ---------------------------------------------------------------------------------------- counterexamples

    def _confirmed(self, verdict: Verdict, case: Case) -> Counterexample | None:
        """The counterexample, or a deeper one, once it has been checked."""
        assert verdict.counterexample is not None
        found = self._checked(verdict.counterexample, case)
        if found is not None:
            return found
        found = self._attacked([case], starts=16, steps=100)
        if found is None:
            self.doubt = "an input was found that violates the property only by the rounding of the model's arithmetic"
        return found

    def _attacked(self, cases: Sequence[Case], starts: int, steps: int) -> Counterexample | None:
        """A counterexample that an attack on each part finds, as deep as it can go: beyond rounding."""
        inside = Inside.of(self.model, self._boxes(cases), None, math.inf)
        for i in range(max(len(case.unsafe) for case in cases)):
            spaces = [self._halfspaces(case.unsafe[min(i, len(case.unsafe) - 1)]) for case in cases]
            rows, limits = (_stacked([getattr(space, name) for space in spaces]) for name in ("rows", "limits"))
            reached = search(
                Objective(self.model, rows, limits, every=True), inside, starts=starts, steps=steps, seed=self.seed
            )
            for case, x, value in zip(cases, reached.x, reached.value, strict=True):
                found = self._checked(x.unsqueeze(0), case) if value <= 0 else None
                if found is not None:
                    return found
        return None

    def _checked(self, x: Tensor, case: Case) -> Counterexample | None:
        given = x.detach().to(self.read.dtype)
        lower, upper = self._box(case)
        if not bool(((lower <= given) & (given <= upper)).all()):
            return None
        inputs = given.flatten().numpy()
        outputs = self.checker.outputs(inputs)
        exact = self.checker.exact(inputs)
        if not np.isfinite(outputs).all() or not np.isfinite(exact).all():
            return None
        for part in case.unsafe:
            if all(c.met(inputs.tolist(), values.tolist()) for c in part for values in (outputs, exact)):
                return Counterexample(inputs, outputs, self.checker.name)
        return None


class Checker:
    """Runs a model on one input: by onnxruntime where it is installed, else by the torch model in its own format."""

    def __init__(self, read: OnnxModel) -> None:
        self.read = read
        try:
            self.runtime: Any = importlib.import_module("onnxruntime")
            self.name = f"onnxruntime {self.runtime.__version__}"
        except ImportError:
            self.runtime = None
            self.name = f"torch {torch.__version__}"
        self._session: Any = None
        self._double: nn.Module | None = None

    def outputs(self, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """What the model gives in its own format."""
        if self.runtime is None:
            with torch.no_grad():
                return self.read.model(torch.from_numpy(inputs).view(1, *self.read.shape)).flatten().numpy()
        if self._session is None:
            options = self.runtime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            try:
                self._session = self.runtime.InferenceSession(
                    self.read.content, options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # of onnxruntime, which has a class for each reason
                raise ValueError(f"{self.name} cannot run the model ({str(error).strip()})") from error
        return self._session.run(None, {self.read.name: inputs.reshape(self.read.onnx_shape)})[0].flatten()

    def exact(self, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The same in float64."""
        if self._double is None:
            self._double = copy.deepcopy(self.read.model).double()
        with torch.no_grad():
            return self._double(torch.from_numpy(inputs).double().view(1, *self.read.shape)).flatten().numpy()


def _stacked(each: Sequence[Tensor]) -> Tensor:
    """Tensors of different lengths as one: the last row of each is repeated to fill up."""
    most = max(len(t) for t in each)
    return torch.stack([t[torch.arange(most).clamp_max(len(t) - 1)] for t in each])


def with_inputs(model: nn.Module) -> fx.GraphModule:
    """A model that gives its outputs and then its inputs, flat: for constraints on both."""
    assert isinstance(model, fx.GraphModule)
    made = copy.deepcopy(model)
    given = next(n for n in made.graph.nodes if n.op == "placeholder")
    last = next(n for n in made.graph.nodes if n.op == "output")
    with made.graph.inserting_before(last):
        flat = [made.graph.call_function(torch.flatten, (n, 1)) for n in (last.args[0], given)]
        last.args = (made.graph.call_function(torch.cat, (flat, 1)),)
    made.recompile()
    return made


def whole(constraint: Constraint) -> dict[tuple[str, int], int]:
    """The coefficients as the smallest whole numbers in the same ratio."""
    numbers = list(constraint.terms.values())
    shared = math.lcm(*(n.denominator for n in numbers))
    scaled = [int(n * shared) for n in numbers]
    divisor = math.gcd(*scaled)
    found = {v: n // divisor for v, n in zip(constraint.terms, scaled, strict=True)}
    largest = max(abs(n) for n in found.values())
    if largest > _EXACT[torch.float64]:
        raise ValueError(
            "the property has coefficients in one constraint that no floats hold exactly, even rescaled: "
            f"{', '.join(repr(float(n)) for n in numbers[:4])}; write them with fewer digits"
        )
    return found


def _up(value: Fraction) -> float:
    near = float(value)
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)


def _inner(ends: np.ndarray[Any, Any], own: type, *, up: bool) -> np.ndarray[Any, Any]:
    """The first number of a format at or beyond the ends of intervals, inward."""
    near = ends.astype(own)
    wrong = near.astype(np.float64) < ends if up else near.astype(np.float64) > ends
    stepped = np.nextafter(near, np.array(math.inf if up else -math.inf, own))
    return np.where(wrong, stepped, near).astype(np.float64)
