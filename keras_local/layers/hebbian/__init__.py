"""Linear maps that learn without labels by a plasticity rule, one family a file."""
