"""Weights on disk: safetensors files, their floats and exponents, and what their names say. numpy comes late."""
