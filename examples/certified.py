"""How far can a digit be changed before a network may read another one? Proved radii, and a network trained for them.

Run: python examples/certified.py      (some seconds)
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from varphi.systems.certified import CertificateLoss, LipschitzLinear, compare, lipschitz, one_lipschitz, plain, radius

data = load_digits()
order = torch.randperm(len(data.data), generator=torch.Generator().manual_seed(0))
x, y = torch.tensor(data.data / 16, dtype=torch.float32)[order], torch.tensor(data.target)[order]
held_out, labels = x[1400:1430], y[1400:1430]


def trained(model: nn.Module, loss: nn.Module, epochs: int) -> nn.Module:
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(1400).split(100):
            optimiser.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            optimiser.step()
    return model.eval()


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10))
model = trained(model, nn.CrossEntropyLoss(), 10)

# A trained classifier, samples, labels: what is proved of each.
found = radius(model, held_out, labels, norm=2)
print(found.table(5))

# What each way of proving gives, beside one attack.
for method, answer in compare(model, held_out, labels, methods=("product", "pairwise", "lipschitz", "crown")).items():
    print(f"{method:>10}: median radius {answer.median():.4f}")
print(lipschitz(model, sample=held_out))

# Layers that cannot stretch, and a loss that asks to be right at a distance: the radius grows.
torch.manual_seed(0)
relu = one_lipschitz("relu")
tame = nn.Sequential(LipschitzLinear(64, 64), relu, LipschitzLinear(64, 64), relu, LipschitzLinear(64, 10))
tame = trained(tame, CertificateLoss(radius=0.5, temperature=20), 6)
print("\n1-Lipschitz layers:")
print(radius(tame, held_out, labels))
print(lipschitz(tame))
deployed = plain(tame)  # the same network of ordinary layers
with torch.no_grad():
    print(f"as ordinary layers it is off by {(deployed(held_out) - tame(held_out)).abs().max():.0e}")
