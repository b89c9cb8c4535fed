"""Activations compared on the user's own model and training: ranked evidence, gradient health, cost."""

from .api import compare as compare
from .result import Comparison as Comparison
