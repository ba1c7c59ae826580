"""From a Keras model to feedback layers, to direct feedback, and back to built-in layers."""
