"""A study whose outcome is known: draws around a level. Also a script: toy.py STORAGE SECONDS [LEVELS]."""

import sys
import time

import numpy as np

from varphi.study import Claim, Outcome, Size, Study, Tuning
from varphi.study.statistics import paired
from varphi.study.verdict import judged

# Set by tests: settings that raise, and how long a trial takes.
BROKEN: set[int] = set()
CALLS: list[dict] = []
# Where the script writes down each trial that it begins.
LOG: list[str] = []


def trial(setting, seeds, points, *, seconds=0.0):
    CALLS.append(setting)
    for path in LOG:
        with open(path, "a") as log:
            log.write(f"{setting['level']}\n")
    time.sleep(seconds)
    if setting["level"] in BROKEN:
        raise RuntimeError(f"level {setting['level']} is broken")
    draws = np.stack([np.random.default_rng(seed).normal(setting["level"], 0.1) for seed in seeds])
    loss = np.array([[abs(point["rate"] - 0.1)] * len(seeds) for point in points])
    return Outcome(
        {"value": np.tile(draws, (len(points), 1)), "loss": loss}, {"loss": loss[..., None].repeat(3, axis=-1)}
    )


def _judge(results):
    family = [paired(results.values("value", level=b), results.values("value", level=a)) for a, b in ((0, 1), (1, 2))]
    return judged(family, conditions=[("steps", "low"), ("steps", "high")])


def study(levels=(0, 1, 2), seconds=0.0):
    return Study(
        name="toy",
        title="A toy",
        question="Does the level show?",
        data="drawn",
        factors={"level": tuple(levels)},
        trial=trial,
        measures={"value": "the draw", "loss": "distance of the rate from 0.1"},
        tuning=Tuning("rate", by="loss"),
        claims=(Claim("levels differ", "Higher is higher.", "Paired differences of value.", _judge),),
        sizes={"full": Size(seeds=8, tuning=(0.01, 0.1, 1.0), takes="no time", options={"seconds": seconds})},
        answer=lambda results, verdicts: f"The level shows: {verdicts[0].status}.",
    )


STUDY = study()

if __name__ == "__main__":
    from varphi.study import api

    levels = range(int(sys.argv[3])) if len(sys.argv) > 3 else (0, 1, 2)
    LOG.append(f"{sys.argv[1]}.log")
    try:
        api.run(study(levels, float(sys.argv[2])), storage=sys.argv[1], progress=False)
    except KeyboardInterrupt as stop:
        print(stop, flush=True)
        sys.exit(130)
