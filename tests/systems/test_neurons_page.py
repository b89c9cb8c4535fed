"""The page on neurons: its first example runs as it stands and prints what it says."""

import contextlib
import io
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "systems" / "neurons.md"
_NUMBER = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")


def test_a_membrane_of_ones_own_gets_its_class_with_evidence():
    code, printed = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE.read_text("utf-8"), re.S)[0]
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(compile(code, str(PAGE), "exec"), {})
    lines, wanted = told.getvalue().splitlines(), printed.splitlines()
    for line, known in zip(lines, wanted, strict=False):
        assert _NUMBER.sub("", line) == _NUMBER.sub("", known)
        numbers = [[float(n) for n in _NUMBER.findall(text)] for text in (line, known)]
        assert numbers[0] == pytest.approx(numbers[1], rel=2e-3)
    # What the page leaves out is the f–I curve.
    rest = lines[len(wanted) :]
    assert rest[0] == "my membrane" and "I (µA/cm²)" in rest[1] and rest[-1].endswith("spiking")
