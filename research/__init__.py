"""Offline work on the core that trades: train a model and say how good it is."""
