"""Which weights of a trained checkpoint moved, and why the others did not."""
