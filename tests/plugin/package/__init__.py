"""A user's own package: it imports the public API of `keras_local` and nothing of this project.

A feedback rule with a memory, a plasticity rule with a memory and settled binary outputs, a linear
map, a feedback layer on that map with a plain twin and an argument of its own, and a network.
"""
