"""Training without labels: plasticity layers, new starts of unused units, alignment alone."""
