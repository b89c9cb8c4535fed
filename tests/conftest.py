import os

from hypothesis import settings

# Two workers share the cores: one torch thread each. Set before torch is imported, and inherited by child processes.
# Numba is left as it is, so that tests of the kernels can still ask for more than one thread.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A first example may compile a kernel, so no deadline. CI draws the same examples every time;
# elsewhere they are new in each run, and a failure is kept and replayed. `--hypothesis-profile NAME` overrides.
settings.register_profile("local", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "local")
