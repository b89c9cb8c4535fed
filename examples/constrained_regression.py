"""Predict a count that is never negative: build a head, start it at the data's mean, watch and revive it.

Run: python examples/constrained_regression.py      (needs the extra: pip install 'varphi[constrained]'; a few seconds)
"""

import torch
from torch import nn
from torch.distributions import Normal, TransformedDistribution

from varphi.systems.constrained import head
from varphi.systems.constrained.data import split

torch.manual_seed(0)
data = split()  # RAND Health Insurance Experiment: visits to a doctor, 31 % of them zero
x, y = data.fit.x.T, data.fit.y

for name, relu_or_softplus in {"ReLU": head("nonnegative"), "softplus": head("positive", beta=1.0)}.items():
    model = nn.Sequential(nn.Linear(9, 32), nn.Tanh(), nn.Linear(32, 1))
    last = model[-1]

    # A bad start: every pre-activation is negative. ReLU is dead, and no loss can move it.
    with torch.no_grad():
        last.bias.fill_(-3.0)
    print(f"{name}, bias -3:     {relu_or_softplus.report(model(x))}")

    # Either bring the dead outputs back ...
    revived = relu_or_softplus.revive_(last, model[:-1](x).detach())
    print(f"  revive_ moved {int(revived.sum())} output(s)")
    # ... or start where the data are, which is better still.
    relu_or_softplus.init_bias_(last, y.mean())
    print(f"  after init_bias_: {relu_or_softplus.report(model(x))}")

    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(5):
        for rows in torch.randperm(len(y)).split(500):
            mu = relu_or_softplus(model(x[rows]))[:, 0]
            loss = nn.functional.poisson_nll_loss(mu, y[rows], log_input=False)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        mu = relu_or_softplus(model(data.held_out.x.T))[:, 0]
    print(
        f"  held out: RMSE {(mu - data.held_out.y).square().mean().sqrt():.3f}, "
        f"exact zeros {(mu == 0).float().mean():.2%}"
    )

# A one-to-one head is a Transform: here, a positive random variable.
law = TransformedDistribution(Normal(0.0, 1.0), head("positive", beta=2.0).transform())
print("log density of softplus(2 N(0, 1))/2 at 1e-20 and 1:", law.log_prob(torch.tensor([1e-20, 1.0])).tolist())
