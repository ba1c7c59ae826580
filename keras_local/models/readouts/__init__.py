"""Classifiers on the frozen features of an encoder."""
