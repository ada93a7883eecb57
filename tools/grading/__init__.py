"""Grading answers to evals/evals.json."""
