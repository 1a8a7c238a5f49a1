"""Gradient modes: which backward pass an attack takes through the spikes."""
