"""Training without labels: pretraining, new weights for unused units, alignment."""
