"""Activations compared on the user's own model and training: ranked evidence, gradient health, cost."""
