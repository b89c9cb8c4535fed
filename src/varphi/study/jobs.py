"""Several processes of this machine on one run: `--jobs N`."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from . import registry
from .declaration import Study
from .plan import Plan
from .progress import Advance
from .queue import Queue

# What decides how many threads the libraries start; read when they are first imported.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# How long a worker may take to put its trial back after Ctrl-C, in seconds.
_PATIENCE = 30


def check(jobs: int, study: Study, place: str | None) -> None:
    """Raises ValueError for a number of processes, or a study, that cannot be used."""
    if jobs < 1:
        raise ValueError(f"a study needs at least one process, got jobs={jobs}")
    if jobs == 1 or place is not None:
        return
    try:
        pickle.dumps(study)
    except Exception as error:
        raise ValueError(
            f"other processes cannot load study {study.name!r} ({error}); give run() its name or 'module:attribute', "
            "or use jobs=1"
        ) from None


def run_together(queue: Queue, place: str | None, jobs: int, advance: Advance) -> None:
    """Let `jobs` new processes do the jobs of a queue.

    Raises:
        ChildProcessError: where every process ended before the work was done.
        KeyboardInterrupt: after Ctrl-C, once every process has put its trial back and ended.
    """
    plan = queue.plan
    task = (place or plan.study, queue.where, plan.size_name, plan.seeds, plan.name)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_work, args=task, name=f"worker {i + 1}") for i in range(jobs)]
    try:
        with _threads_for(jobs), _ignored_ctrl_c():
            for worker in workers:
                worker.start()
        _watch(workers, queue, advance)
    finally:
        _end(workers)
    if queue.pending():
        raise ChildProcessError(
            f"all {jobs} processes ended before the study was done, with exit codes "
            f"{', '.join(str(w.exitcode) for w in workers)}; finished trials are stored, the same command goes on"
        )


def _watch(workers: Sequence[Any], queue: Queue, advance: Advance) -> None:
    """Wait for all workers; say which of them failed."""
    running = list(workers)
    while running:
        multiprocessing.connection.wait([w.sentinel for w in running], timeout=0.5)
        for worker in [w for w in running if not w.is_alive()]:
            running.remove(worker)
            if worker.exitcode:
                print(_obituary(worker, len(running)), file=sys.stderr, flush=True)
        queue.look()
        advance(*queue.counts())


def _obituary(worker: Any, left: int) -> str:
    code = worker.exitcode
    cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{worker.name} (process {worker.pid}) {cause}; {left} go on, and its trial is run again"


def _end(workers: Sequence[Any]) -> None:
    """Ask what still runs to put its trial back and end; after a while, without asking."""
    alive = [w for w in workers if w.pid is not None and w.is_alive()]
    for worker in alive:
        worker.terminate()
    end = time.monotonic() + _PATIENCE
    try:
        for worker in alive:
            worker.join(max(0.0, end - time.monotonic()))
    finally:
        for worker in alive:
            worker.kill()


@contextmanager
def _threads_for(jobs: int) -> Iterator[None]:
    """Processes started here share the cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(max(1, cores // jobs))))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _ignored_ctrl_c() -> Iterator[None]:
    """Processes started here never see Ctrl-C: this process tells them once, when it is ready to wait for them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# In the worker --------------------------------------------------------------------------------------------------------


def _work(source: str | Study, where: Any, size: str, seeds: tuple[int, ...], name: str) -> None:
    from .engine import Worker

    signal.signal(signal.SIGTERM, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = None
    try:
        study = registry.load(source) if isinstance(source, str) else source
        plan = Plan(study, size, seeds)
        if plan.name != name:
            raise ValueError(f"study {study.name!r} is declared differently now than when the run began")
        worker = Worker(Queue(plan, where, create=False))
        worker.run_all(lambda finished, failed: None)
    except KeyboardInterrupt:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if worker is not None:
            worker.give_up()
        sys.exit(130)


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
