import os
import signal

from hypothesis import settings

# Two workers share the cores: one torch thread each. Set before torch is imported, and inherited by child processes.
# Numba is left as it is, so that tests of the kernels can still ask for more than one thread.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A shell that starts `make test` in the background has it ignore Ctrl-C, and every child process inherits that: the
# tests that interrupt a command would wait for an end that never comes.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A first example may compile a kernel, so no deadline. CI draws the same examples every time;
# elsewhere they are new in each run, and a failure is kept and replayed. `--hypothesis-profile NAME` overrides.
settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
