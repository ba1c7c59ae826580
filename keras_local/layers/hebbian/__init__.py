"""Layers that learn without labels by a plasticity rule."""
