"""Learners: files that infer and continue to learn without Keras."""
