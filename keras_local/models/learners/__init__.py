"""Learners that travel: files that infer and go on learning without Keras."""
