"""Grading what an agent answered and wrote for the prompts of evals/evals.json, by rules alone."""
