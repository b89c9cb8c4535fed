"""`varphi study`: what an activation does to a model, over many paired seeds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from varphi.files import check_writable

from .arguments import Json
from .console import console, print_json

studies = typer.Typer(no_args_is_help=True, help="Studies: what an activation does to a model, over many paired seeds.")


def _known_studies(incomplete: str) -> list[str]:
    from varphi.study import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


StudyName = Annotated[
    str, typer.Argument(metavar="NAME", help="A study (`varphi study list`).", autocompletion=_known_studies)
]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="VARPHI_STORAGE",
        show_envvar=True,
        help="Where trials live: a SQLite file (default varphi.db), postgresql://USER@HOST/NAME, grpc://HOST:PORT.",
    ),
]
SizeName = Annotated[str | None, typer.Option(metavar="full|demo|smoke", help="How much of it is run.")]
Demo = Annotated[bool, typer.Option("--demo", help="The same as --size demo: minutes.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="The same as --size smoke: seconds, to see that it works.")]
Seeds = Annotated[int | None, typer.Option(metavar="N", help="How many paired seeds; the size's own if not given.")]


def _chosen_size(size: str | None, demo: bool, smoke: bool) -> str | None:
    given = [name for name in (size, "demo" * demo, "smoke" * smoke) if name]
    if len(set(given)) > 1:
        raise ValueError(f"one size at a time, got {' and '.join(given)}")
    return given[0] if given else None


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
def run_study(
    name: StudyName,
    storage: Storage = None,
    size: SizeName = None,
    demo: Demo = False,
    smoke: Smoke = False,
    seeds: Seeds = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", metavar="N", min=1, help="How many processes of this machine work on it.")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Run what is still missing of a study, and print its answer; stopped or killed, the same command goes on."""
    from varphi.study import api

    results = api.run(name, storage=storage, size=_chosen_size(size, demo, smoke) or "full", seeds=seeds, jobs=jobs)
    _show_results(results, as_json)
    if results.missing:
        raise typer.Exit(1)


@studies.command("show")
def show_study(
    name: StudyName,
    storage: Storage = None,
    size: SizeName = None,
    demo: Demo = False,
    smoke: Smoke = False,
    seeds: Seeds = None,
    as_json: Json = False,
) -> None:
    """Print what the storage holds of a study: answer, verdicts, table. Without a size, the last one run."""
    from varphi.study import api

    found = api.results(api.load(name), storage, size=_chosen_size(size, demo, smoke), seeds=seeds)
    _show_results(found, as_json)


@studies.command("report")
def report_study(
    name: StudyName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="The page; NAME.html if not given.")
    ] = None,
    storage: Storage = None,
    size: SizeName = None,
    demo: Demo = False,
    smoke: Smoke = False,
    seeds: Seeds = None,
) -> None:
    """Write a study's self-contained page: answer, figures, table, verdicts, exact versions."""
    from varphi import report
    from varphi.study import api

    study = api.load(name)
    path = check_writable(output or Path(f"{study.name}.html"), (".html", ".htm"))
    report.html(api.results(study, storage, size=_chosen_size(size, demo, smoke), seeds=seeds), path)
    print(f"wrote {path}")


@studies.command("export")
def export_study(
    name: StudyName,
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
    storage: Storage = None,
    size: SizeName = None,
    demo: Demo = False,
    smoke: Smoke = False,
    seeds: Seeds = None,
) -> None:
    """Write every number of a study as a tidy table: a line for each setting, point and seed."""
    from varphi.study import api, tables

    study = api.load(name)
    tables.check(output, curves=curves)
    found = api.results(study, storage, size=_chosen_size(size, demo, smoke), seeds=seeds)
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
