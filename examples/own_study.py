"""A study of your own: does a periodic activation fit a wave better than ReLU?

Run:  varphi study run examples/own_study.py:STUDY --smoke        (seconds; without --smoke two minutes)
      varphi study run examples/own_study.py:STUDY --jobs 2       (the same on two cores)
"""

import torch
from torch import nn

import varphi as vp
from varphi.study import Claim, Outcome, Range, Search, Size, Study, Tuning
from varphi.study.statistics import paired
from varphi.study.verdict import judged


def trial(setting, seeds, points, *, steps):
    """One setting with one seed, at every point that is tried. The same seed means the same data and start."""
    found = {"validation": [], "error": []}
    for point in points:
        torch.manual_seed(seeds[0])
        x = torch.linspace(-1, 1, 256)[torch.randperm(256), None]
        wave = torch.sin(6 * x)
        y = wave + 0.1 * torch.randn_like(x)
        model = nn.Sequential(nn.Linear(1, 64), vp.get(setting["activation"]), nn.Linear(64, 1))
        optimiser = torch.optim.Adam(model.parameters(), lr=point["learning rate"])
        for _ in range(steps):
            optimiser.zero_grad()
            nn.functional.mse_loss(model(x[:192]), y[:192]).backward()
            optimiser.step()
        found["validation"].append([nn.functional.mse_loss(model(x[192:]), y[192:]).item()])
        found["error"].append([nn.functional.mse_loss(model(x), wave).sqrt().item()])
    return Outcome(found)


def judge(results):
    relu, sin = (results.values("error", activation=name) for name in ("relu", "sin"))
    return judged([paired(relu, sin)], conditions=[("always", "")])


SEARCH = {"learning rate": Range(1e-3, 1e-1, log=True)}
STUDY = Study(
    name="waves",
    title="Fitting a wave",
    question="Does a periodic activation fit a sine wave better than ReLU and tanh?",
    data="256 points of sin(6x) on [-1, 1] with noise 0.1, drawn for each seed",
    factors={"activation": ("relu", "tanh", "sin")},
    trial=trial,
    batched=False,  # each seed is a trial of its own: a kill costs one training at most
    measures={"validation": "mean squared error on 64 points kept back", "error": "RMSE against the wave itself"},
    tuning=Tuning(by="validation"),
    claims=(Claim("periodic is better", "A sine fits a wave better.", "RMSE, ReLU minus sine, paired", judge),),
    sizes={
        "full": Size(10, Search(SEARCH, points=8), "two minutes", {"steps": 500}),
        "smoke": Size(6, Search(SEARCH, points=2), "seconds", {"steps": 20}),
    },
    answer=lambda results, verdicts: f"A sine fits the wave better than ReLU: {verdicts[0]}.",
    headline=("error",),
)
