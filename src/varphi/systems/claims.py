"""What the chapter claims of each of the thirteen systems, and where each claim stands."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from varphi.study import Study
    from varphi.study.results import Results
    from varphi.study.verdict import Verdict


@dataclass(frozen=True)
class Entry:
    """A claim of the chapter.

    Attributes:
        number, system, title: of the system, counted from 1.
        name: the claim in a few words; where a study tests it, the study's name for it.
        study: the study that tests it, or None.
        quote: the chapter's sentence, in translation; None where the study has it.
    """

    number: int
    system: str
    title: str
    name: str
    study: str | None = None
    quote: str | None = None


@dataclass(frozen=True)
class Run:
    """A run of a study that verdicts come from.

    Attributes:
        size: the study's size; a "smoke" run only shows that the study works.
        seeds: how many paired seeds.
        date: the day (UTC) on which it was last worked on.
        settings, finished: how many it has, and how many of them are finished.
    """

    size: str
    seeds: int
    date: str
    settings: int
    finished: int

    @property
    def is_evidence(self) -> bool:
        """Whether it is more than a trial of the machinery."""
        return self.size != "smoke"


@dataclass(frozen=True)
class Standing:
    """Where a claim stands: judged by a run, or not run yet, or without a study.

    Attributes:
        quote: the chapter's sentence, in translation.
        measure: what the study measures, and what would support or refute the claim; None without a study.
        verdict, run: None where no run is stored.
    """

    claim: Entry
    quote: str
    measure: str | None = None
    verdict: Verdict | None = None
    run: Run | None = None

    @property
    def status(self) -> str:
        """The verdict's status, or "not run yet", or "no study yet"."""
        if self.claim.study is None:
            return "no study yet"
        return "not run yet" if self.verdict is None else self.verdict.status


@cache
def entries() -> tuple[Entry, ...]:
    """The chapter's claims on all thirteen systems, in its order."""
    table = tomllib.loads(resources.files("varphi.systems").joinpath("claims.toml").read_text("utf-8"))
    return tuple(
        Entry(number, system["name"], system["title"], **claim)
        for number, system in enumerate(table["system"], 1)
        for claim in system["claim"]
    )


def standings(system: str | None = None, storage: str | Path | None = None) -> list[Standing]:
    """Where the chapter's claims stand.

    Args:
        system: only the claims on this one.
        storage: where runs are looked for, as for `varphi.study.results`. One that does not exist yet holds none.

    Raises:
        ValueError: for an unknown system.
        StorageError: for a storage that exists and cannot be used.
    """
    chosen = _of_system(system)
    studies = _studies(chosen)
    found = {name: _best_run(study, storage) for name, study in studies.items()}
    return [_standing(entry, studies, found) for entry in chosen]


def _of_system(system: str | None) -> list[Entry]:
    if system is None:
        return list(entries())
    known = list(dict.fromkeys(entry.system for entry in entries()))
    if system not in known:
        close = difflib.get_close_matches(system, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"the chapter has no system {system!r}.{hint} Systems: {', '.join(known)}")
    return [entry for entry in entries() if entry.system == system]


def _studies(chosen: Iterable[Entry]) -> dict[str, Study]:
    """The studies that test these claims; only they are imported."""
    from varphi.study import api

    return {name: api.load(name) for name in dict.fromkeys(entry.study for entry in chosen) if name is not None}


def _best_run(study: Study, storage: str | Path | None) -> Results | None:
    """The run of the largest size that is finished, or failing that the largest begun; None if there is none."""
    from varphi.study import api
    from varphi.study.storage import NothingStoredError

    begun = None
    for size in study.sizes:
        try:
            found = api.results(study, storage, size=size)
        except NothingStoredError:
            continue
        if not found.missing:
            return found
        begun = begun or found
    return begun


def _standing(entry: Entry, studies: Mapping[str, Study], runs: Mapping[str, Results | None]) -> Standing:
    if entry.study is None:
        assert entry.quote is not None, f"the table has neither a study nor a quote for {entry.name!r}"
        return Standing(entry, entry.quote)
    names = [claim.name for claim in studies[entry.study].claims]
    place = names.index(entry.name)
    claim, results = studies[entry.study].claims[place], runs[entry.study]
    if results is None:
        return Standing(entry, claim.quote, claim.measure)
    return Standing(entry, claim.quote, claim.measure, results.verdicts[place], _run(results))


def _run(results: Results) -> Run:
    # Both begin with the time, and the runs are in its order.
    times = [results.record["declared"], *results.record["runs"]]
    return Run(
        size=results.size,
        seeds=len(results.seeds),
        date=times[-1][: len("2026-01-01")],
        settings=len(results.rows) + len(results.missing),
        finished=len(results.rows),
    )


def data(standing: Standing) -> dict[str, Any]:
    """A standing with plain keys, for JSON."""
    claim, verdict, run = standing.claim, standing.verdict, standing.run
    return {
        "number": claim.number,
        "system": claim.system,
        "title": claim.title,
        "claim": claim.name,
        "quote": standing.quote,
        "study": claim.study,
        "measure": standing.measure,
        "status": standing.status,
        "condition": (verdict.condition or None) if verdict else None,
        "evidence": verdict.evidence if verdict else None,
        "size": run.size if run else None,
        "smoke": not run.is_evidence if run else None,
        "seeds": run.seeds if run else None,
        "date": run.date if run else None,
        "settings": run.settings if run else None,
        "finished": run.finished if run else None,
    }
