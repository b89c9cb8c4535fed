"""Many replicas of one model as one module: every seed and activation trained at once."""

from .api import replicate as replicate
