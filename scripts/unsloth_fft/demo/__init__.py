"""The embedded default: a small model, a tokenizer and data about full fine-tuning, trained from end to end."""
