"""Certify the whole catalogue from cold, on one core: total time, the slowest entries, and every undecided fact.

python benchmarks/facts.py [NAME ...]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time


def main(chosen: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VARPHI_CACHE_DIR"] = folder
        from varphi.activation.registry import definition, names
        from varphi.facts.api import facts

        times: list[tuple[float, str]] = []
        undecided: list[str] = []
        for name in chosen or names():
            start = time.process_time()
            try:
                about = facts(definition(name))
                left = about.undecided()
                about.saturation(1e-3)
            except Exception as error:  # one entry's failure must not hide the others
                left = [f"{type(error).__name__}: {error}"]
            times.append((time.process_time() - start, name))
            undecided += [f"{name}: {', '.join(left)}"] if left else []
        print(f"{len(times)} entries certified in {sum(t for t, _ in times):.1f} s of processor time")
        print("slowest: " + ", ".join(f"{name} {t:.2f} s" for t, name in sorted(times, reverse=True)[:10]))
        print(f"with undecided facts: {len(undecided)}")
        for line in undecided:
            print(f"  {line}")


if __name__ == "__main__":
    main(sys.argv[1:])
