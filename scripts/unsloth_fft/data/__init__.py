"""Rows on their way to training: formats, files, splitting, templates, and which tokens are learned."""
