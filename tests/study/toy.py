"""A study whose outcome is known: draws around a level. Also a script: toy.py STORAGE SECONDS LEVELS LOG."""

import os
import sys
import time
from pathlib import Path

import numpy as np

from varphi.study import Claim, Contest, Outcome, Range, Search, Size, Study, Tuning
from varphi.study.statistics import paired
from varphi.study.verdict import judged

# Set by tests: settings that raise.
BROKEN: set[int] = set()
CALLS: list[dict] = []


def trial(setting, seeds, points, *, seconds=0.0, log=None):
    CALLS.append({**setting, "seeds": list(seeds)})
    if log:
        with open(log, "a") as file:
            file.write(f"{setting['level']} {'+'.join(map(str, seeds))} {os.getpid()}\n")
    time.sleep(seconds)
    if setting["level"] in BROKEN:
        raise RuntimeError(f"level {setting['level']} is broken")
    draws = np.stack([np.random.default_rng(seed).normal(setting["level"], 0.1) for seed in seeds])
    loss = np.array([[abs(point["rate"] - 0.1)] * len(seeds) for point in points])
    return Outcome(
        {"value": np.tile(draws, (len(points), 1)), "loss": loss}, {"loss": loss[..., None].repeat(3, axis=-1)}
    )


def judge(results):
    family = [paired(results.values("value", level=b), results.values("value", level=a)) for a, b in ((0, 1), (1, 2))]
    return judged(family, conditions=[("steps", "low"), ("steps", "high")])


def answer(results, verdicts):
    return f"The level shows: {verdicts[0].status}."


def study(levels=(0, 1, 2), seconds=0.0, log=None, *, tuning=(0.01, 0.1, 1.0), batched=True):
    return Study(
        name="toy",
        title="A toy",
        question="Does the level show?",
        data="drawn",
        factors={"level": tuple(levels)},
        trial=trial,
        measures={"value": "the draw", "loss": "distance of the rate from 0.1"},
        tuning=Tuning("rate", by="loss"),
        claims=(Claim("levels differ", "Higher is higher.", "Paired differences of value.", judge),),
        sizes={"full": Size(seeds=8, tuning=tuning, takes="no time", options={"seconds": seconds, "log": log})},
        answer=answer,
        contests=(Contest("Draws", "value", among=("level",), at={"level": (0, 1, 2)}),),
        batched=batched,
    )


STUDY = study()
SEARCH = study(tuning=Search({"rate": Range(1e-3, 1, log=True)}, points=12, sampler="tpe", rounds=3))
if "TOY" in os.environ:
    # What processes of `--jobs` load: as a test says, "SECONDS LEVELS LOG".
    _seconds, _levels, _log = os.environ["TOY"].split()
    STUDY = study(range(int(_levels)), float(_seconds), _log)

if __name__ == "__main__":
    from varphi.study import api

    storage, seconds, levels, log = sys.argv[1:]
    try:
        api.run(study(range(int(levels)), float(seconds), log), storage=storage, progress=False)
    except KeyboardInterrupt as stop:
        print(stop, flush=True)
        sys.exit(130)
    Path(f"{log}.end").touch()
