"""`varphi study`: what an activation does to a model, over many paired seeds."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from varphi.files import check_writable

from .arguments import Jobs, Json, Storage, grouped
from .console import console, print_json

if TYPE_CHECKING:
    from varphi.study import Study
    from varphi.study.results import Results

studies = typer.Typer(no_args_is_help=True, help="Studies: what an activation does to a model, over many paired seeds.")


def _known_studies(incomplete: str) -> list[str]:
    from varphi.study import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


StudyName = Annotated[
    str, typer.Argument(metavar="NAME", help="A study (`varphi study list`).", autocompletion=_known_studies)
]
SizeName = Annotated[str | None, typer.Option(metavar="full|demo|smoke", help="How much of it is run.")]
Demo = Annotated[bool, typer.Option("--demo", help="The same as --size demo: minutes.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="The same as --size smoke: seconds, to see that it works.")]
Seeds = Annotated[int | None, typer.Option(metavar="N", help="How many paired seeds; the size's own if not given.")]


@dataclass(frozen=True)
class Which:
    """Which trials of a study, and where they live."""

    storage: Storage = None
    size: SizeName = None
    demo: Demo = False
    smoke: Smoke = False
    seeds: Seeds = None

    def chosen(self) -> str | None:
        """The size, if one is given."""
        given = [name for name in (self.size, "demo" * self.demo, "smoke" * self.smoke) if name]
        if len(set(given)) > 1:
            raise ValueError(f"one size at a time, got {' and '.join(given)}")
        return given[0] if given else None

    def results(self, study: Study) -> Results:
        from varphi.study import api

        return api.results(study, self.storage, size=self.chosen(), seeds=self.seeds)


@studies.command("list")
def list_studies(as_json: Json = False) -> None:
    """The studies, their questions and sizes."""
    from rich.table import Table

    from varphi.study import api

    found = [api.load(name) for name in api.names()]
    if as_json:
        keys = ("name", "title", "question", "data", "factors", "measures")
        return print_json([{key: getattr(study, key) for key in keys} | {"sizes": study.sizes} for study in found])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for column in ("study", "question", "size: how long it takes"):
        table.add_column(column, overflow="fold")
    for study in found:
        table.add_row(study.name, study.question, "\n".join(f"{n}: {s.takes}" for n, s in study.sizes.items()))
    console().print(table)


@studies.command("run")
@grouped
def run_study(
    name: StudyName,
    which: Which,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Run what is still missing of a study, and print its answer; stopped or killed, the same command goes on."""
    from varphi.study import api

    results = api.run(name, storage=which.storage, size=which.chosen() or "full", seeds=which.seeds, jobs=jobs)
    _show_results(results, as_json)
    if results.missing:
        raise typer.Exit(1)


@studies.command("show")
@grouped
def show_study(
    name: StudyName,
    which: Which,
    as_json: Json = False,
) -> None:
    """Print what the storage holds of a study: answer, verdicts, table. Without a size, the last one run."""
    from varphi.study import api

    _show_results(which.results(api.load(name)), as_json)


@studies.command("report")
@grouped
def report_study(
    name: StudyName,
    which: Which,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="The page; NAME.html if not given.")
    ] = None,
) -> None:
    """Write a study's self-contained page: answer, figures, table, verdicts, exact versions."""
    from varphi import report
    from varphi.study import api

    study = api.load(name)
    path = check_writable(output or Path(f"{study.name}.html"), (".html", ".htm"))
    report.html(which.results(study), path)
    print(f"wrote {path}")


@studies.command("export")
@grouped
def export_study(
    name: StudyName,
    which: Which,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.csv|.parquet|.json",
            help="The table. Beside a .csv stands FILE.csv.json with verdicts, versions and failures.",
        ),
    ],
    curves: Annotated[
        bool, typer.Option("--curves", help="Also FILE.curves.csv or .parquet; a .json has them always.")
    ] = False,
) -> None:
    """Write every number of a study as a tidy table: a line for each setting, point and seed."""
    from varphi.study import api, tables

    study = api.load(name)
    tables.check(output, curves=curves)
    found = which.results(study)
    for path in api.export(found, output, curves=curves):
        print(f"wrote {path}")


@studies.command("serve")
def serve_storage(
    storage: Storage = None,
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="The port to listen on.")] = 13000,
    host: Annotated[
        str,
        typer.Option(metavar="HOST", help="The address to listen on; 0.0.0.0 for all. It asks nobody who they are."),
    ] = "localhost",
) -> None:
    """Let other machines work on a storage: a proxy that they reach as --storage grpc://THIS_MACHINE:PORT."""
    from varphi.study import api
    from varphi.study import storage as storages

    server = api.serve(storage, host=host, port=port)
    print(f"serving {storages.described(storage)} at grpc://{host}:{port}; Ctrl-C ends it", flush=True)
    with suppress(KeyboardInterrupt):
        server.wait_for_termination()
    server.stop(grace=2).wait()


def _show_results(results: Any, as_json: bool) -> None:
    if as_json:
        from varphi.study.data import results_data

        return print_json(results_data(results))
    from varphi.study import api

    api.show(results, console())
