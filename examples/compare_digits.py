"""Which activation for a small network on scikit-learn's handwritten digits (1797 images of 8 × 8)?

Run:  python examples/compare_digits.py                              (half a minute; stopped, it goes on from there)
      varphi compare examples/compare_digits.py:build --fit examples/compare_digits.py:fit \
          --measure accuracy --best highest -a leaky_relu,gelu,tanh,sigmoid -o digits.html      (the same, with a page)
"""

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn

import varphi as vp


def build():
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )


@cache
def data():
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


def fit(model, seed, epochs=15, learning_rate=2e-3):
    """Train on three quarters of the images, another split for each seed; measure on the rest."""
    images, labels = data()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[450:], order[:450]
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
    with torch.no_grad():
        scores = model(images[test])
    loss = nn.functional.cross_entropy(scores, labels[test]).item()
    return {"accuracy": (scores.argmax(1) == labels[test]).double().mean().item(), "loss": loss}


if __name__ == "__main__":
    found = vp.compare(
        build, fit, ["leaky_relu", "gelu", "tanh", "sigmoid"], measure=("accuracy", "loss"), best="highest"
    )
    print(found)
