"""Layers that send the error or the target from the outputs straight to hidden layers."""
