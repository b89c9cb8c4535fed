"""Labels with Cauchy noise: see what the outliers do to the gradient, and what a robust loss and a bounded head change.

Run: python examples/heavy_tails.py      (a few seconds)
"""

import torch
from torch import nn

from varphi.systems.heavy_tails import BoundedHead, CauchyNLL, gradient_tails, influence

generator = torch.Generator().manual_seed(0)
x = 2 * torch.rand(512, 1, generator=generator) - 1
noise = torch.tan(torch.pi * (torch.rand(512, 1, generator=generator) - 0.5))
y = 0.8 * torch.sin(3 * x) + 0.1 * noise
grid = torch.linspace(-1, 1, 401)[:, None]
truth = 0.8 * torch.sin(3 * grid)
print(f"the largest of {len(y)} labels is {y.abs().max():.0f}; without noise none is above 0.8")

# How far one bad label can pull, before anything is trained.
for loss in (nn.MSELoss(), CauchyNLL(scale="learn")):
    print(influence(loss))

for title, loss, bounded in (
    ("squared loss", nn.MSELoss(), False),
    ("squared loss, bounded head", nn.MSELoss(), True),
    ("Cauchy likelihood, bounded head", CauchyNLL(scale="learn"), True),
):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 1))
    if bounded:
        head = BoundedHead("median±3 MADN", activation="tanh").calibrate_(y)
        head.init_bias_(model[-1], y.median())
        model.append(head)
    if isinstance(loss, CauchyNLL):
        loss.calibrate_(y)
    # The loss has a parameter too: its scale.
    optimiser = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=0.01)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 400)
    for _ in range(400):
        optimiser.zero_grad()
        loss(model(x), y).backward()
        optimiser.step()
        slower.step()
    with torch.no_grad():
        error = (model(grid) - truth).abs().median()
    print(f"\n{title}: median |error| {error:.3f}")
    print(gradient_tails(model, loss, (x, y)))
