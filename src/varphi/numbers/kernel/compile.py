"""Compiling kernels for this processor, keeping them on disk, and running them on torch's own threads."""

from __future__ import annotations

import ctypes
import functools
import glob
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import llvmlite
import llvmlite.binding as llvm
import llvmlite.ir as ir

from varphi.numbers import cache

from .build import FAST_WIDTH, Signature, module

# Raised when the code generator changes, so that no kernel of an older one is loaded.
VERSION = 2
# Below this many elements, waking a second thread costs more than it saves.
SERIAL_BELOW = 8192


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


_METH_FASTCALL = 0x80
# What `entry` of a kernel asks of the interpreter.
_INTERPRETER = ("PyLong_AsLongLong", "Py_IncRef", "_Py_NoneStruct")


class Kernel:
    """A compiled kernel, ready to call with addresses.

    Attributes:
        address: of `run` (see `build.module`), for other machine code to call; the code lives as long as this object.
        serial: for kernels without scalars, `serial(*addresses, elements)`: on this thread, in a quarter of the time
            that a call through ctypes takes. It keeps the interpreter's lock: for short arrays.
    """

    serial: Callable[..., None]

    def __init__(self, engine: llvm.ExecutionEngine, arrays: int, scalars: int) -> None:
        self._engine = engine  # owns the code
        addresses = [ctypes.c_void_p] * (arrays + 1)
        kind = ctypes.CFUNCTYPE(None, *addresses, ctypes.c_int64, ctypes.c_int64)
        self.address = engine.get_function_address("run")
        self._run = kind(self.address)
        self._work = engine.get_function_address("work")
        self._scalars = ctypes.c_double * scalars
        self._task = ctypes.c_int64 * (arrays + 4)
        if not scalars:
            self._definition = _MethodDef(b"kernel", engine.get_function_address("entry"), _METH_FASTCALL, None)
            self.serial = _new_function(ctypes.byref(self._definition), None, None)

    def __call__(self, addresses: Sequence[int], scalars: Sequence[float], elements: int, threads: int) -> None:
        """Run over `elements` elements of contiguous arrays at `addresses` (inputs, then outputs)."""
        numbers = self._scalars(*scalars) if scalars else None
        parallel = parallel_entry() if threads > 1 and elements >= SERIAL_BELOW else None
        if parallel is None:
            self._run(*addresses, numbers, 0, elements)
            return
        # Four chunks a thread even out unequal threads; a chunk is whole vectors.
        chunk = -(-elements // (4 * threads * FAST_WIDTH)) * FAST_WIDTH
        place = ctypes.addressof(numbers) if numbers is not None else 0
        parallel(self._work, self._task(*addresses, place, elements, chunk, 0), threads, 0)


_new_function = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(
    ("PyCFunction_NewEx", ctypes.pythonapi)
)


@functools.cache
def parallel_entry() -> ctypes._NamedFuncPointer | None:
    """OpenMP's entry point in the runtime that torch itself uses, so that both share one pool of threads."""
    import torch

    folder = Path(torch.__file__).parent
    names = [*glob.glob(str(folder / "lib" / "libgomp*")), *glob.glob(str(folder / "lib" / "libiomp5*"))]
    names += glob.glob(str(folder.parent / "torch.libs" / "libgomp*"))
    for name in names:
        try:
            entry = ctypes.CDLL(name).GOMP_parallel
        except (OSError, AttributeError):
            continue
        entry.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        entry.restype = None
        return entry
    return None


@functools.cache
def _processor() -> tuple[str, str]:
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


_LOCK = threading.Lock()
_KERNELS: dict[str, Kernel] = {}


def kernel(signature: Signature) -> Kernel:
    """The compiled kernel of a signature: from memory, from disk, or made now."""
    key = signature.key()
    found = _KERNELS.get(key)
    if found is None:
        with _LOCK:
            found = _KERNELS.get(key) or _KERNELS.setdefault(key, _make(signature, key))
    return found


def _make(signature: Signature, key: str) -> Kernel:
    arrays = len(signature.inputs) + len(signature.outputs)
    return Kernel(engine(key, lambda: module(signature)), arrays, len(signature.scalars))


def engine(key: str, source: Callable[[], ir.Module]) -> llvm.ExecutionEngine:
    """The machine code of a module with this key: from disk, or compiled now."""
    cpu, features = _processor()
    text = f"{key} {VERSION} {llvmlite.__version__} {cpu} {features} {_generator()}"
    name = hashlib.sha256(text.encode()).hexdigest()
    machine = _machine()
    stored = cache.read("kernels", name)
    if stored is None:
        reference = llvm.parse_assembly(str(source()))
        reference.verify()
        _optimise(reference, machine)
        stored = machine.emit_object(reference)
        cache.write("kernels", name, stored)
    result = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    result.add_object_file(llvm.ObjectFileRef.from_data(stored))
    result.finalize_object()
    return result


@functools.cache
def _generator() -> str:
    """A digest of the generator's own source: a changed elementary function must not meet an old kernel."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in _INTERPRETER:
        llvm.add_symbol(name, ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, name)))


def _machine() -> llvm.TargetMachine:
    _initialise()
    cpu, features = _processor()
    return llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=3, jit=True)


def _optimise(reference: llvm.ModuleRef, machine: llvm.TargetMachine) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(reference, builder)


def available() -> bool:
    """Whether kernels can be made here; VARPHI_KERNELS=0 turns them off."""
    return os.environ.get("VARPHI_KERNELS", "1") != "0"


def threads_note() -> str | None:
    """Why kernels run on one thread here, if they do."""
    if parallel_entry() is not None:
        return None
    return "torch's OpenMP runtime was not found: kernels run on one thread"
