"""The shape of a model from its config alone: families, blocks, tensors, the catalogue. Standard library only."""
