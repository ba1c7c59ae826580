"""Conversion of models to feedback layers, to direct feedback, and back to built-in layers."""
