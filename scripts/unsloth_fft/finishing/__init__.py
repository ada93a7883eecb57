"""What becomes of a finished run: exports, evaluations, GGUF files, the model card."""
