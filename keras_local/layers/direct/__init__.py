"""Layers that send the error or the target from the outputs directly to hidden layers."""
