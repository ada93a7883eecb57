"""Weights on disk: safetensors files, their floats and exponents, what names say, and loading. numpy comes late."""
