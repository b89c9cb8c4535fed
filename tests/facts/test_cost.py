"""Costs are ratios to a copy; no time is asserted, only what must hold of any machine."""

import time

import pytest
import torch

from varphi.facts.cost import cost, cost_of


def test_rows_and_their_order():
    found = cost("relu", sizes=(64, 4096))
    assert [row.size for row in found.rows] == [64, 4096]
    assert found.threads == torch.get_num_threads()
    for row in found.rows:
        for ratio in (row.forward, row.training):
            assert 0 < ratio.lower <= ratio.median <= ratio.upper
    assert found.at(64) is found.rows[0]
    with pytest.raises(KeyError, match="64, 4096, not at 7"):
        found.at(7)


def test_a_slower_function_costs_more():
    def slow(x):
        time.sleep(2e-3)
        return x * 1

    assert cost_of(slow, 64).forward.median > 10 * cost_of(lambda x: x * 1, 64).forward.median


@pytest.mark.parametrize("sizes", [(), (0,), (-3,), (2.5,), (True,)])
def test_bad_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be whole numbers >= 1"):
        cost("relu", sizes=sizes)
