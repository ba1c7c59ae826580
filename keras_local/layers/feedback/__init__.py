"""Layers whose errors return by a feedback rule."""
