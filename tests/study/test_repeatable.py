"""The same numbers again: bit for bit on this machine, and within a stated tolerance for other numbers of threads."""

import numpy as np
import pytest
import torch
from torch import nn

from varphi.study import Outcome, Size, Study, api

# Documented in docs/concepts/evidence.md: float32, 10 steps of Adam on a small net that is let loose on all threads.
TOLERANCE = 1e-6


def trial(setting, seeds, points):
    found = [_loss(seed) for seed in seeds]
    return Outcome({"loss": np.array([[loss for loss, _ in found]])}, {"loss": np.array([[c for _, c in found]])})


def _loss(seed):
    generator = torch.Generator().manual_seed(seed)
    # So many rows that torch splits products and sums among its threads.
    x = torch.randn(4_000, 32, generator=generator)
    y = torch.sin(3 * x[:, :1]) + 0.1 * torch.randn(4_000, 1, generator=generator)
    net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    optimiser, curve = torch.optim.Adam(net.parameters(), lr=0.01), []
    for _ in range(10):
        optimiser.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        optimiser.step()
        curve.append(float(loss.detach()))
    return curve[-1], curve


def study():
    return Study(
        name="trained",
        title="A net",
        question="?",
        data="drawn",
        factors={"activation": ("relu",)},
        trial=trial,
        measures={"loss": "mean squared error"},
        claims=(),
        sizes={"full": Size(seeds=2)},
        answer=lambda results, verdicts: "",
    )


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def run(storage):
    results = api.run(study(), storage=storage, progress=False)
    return np.stack([row.values("loss") for row in results.rows])


@pytest.mark.parametrize("count", [1, 2])
def test_the_same_seeds_give_the_same_bits(tmp_path, threads, count):
    threads(count)
    first, again = (run(tmp_path / f"{i}.db") for i in range(2))
    assert first.tobytes() == again.tobytes() and len(np.unique(first)) == 2


def test_another_number_of_threads_changes_little(tmp_path, threads):
    found = []
    for count in (1, 2):
        threads(count)
        found.append(run(tmp_path / f"{count}.db"))
    np.testing.assert_allclose(found[1], found[0], rtol=TOLERANCE)
