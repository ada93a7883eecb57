"""State and gradients in host memory, layers recomputed: what a card lacks, paid in time. Imports torch late."""
