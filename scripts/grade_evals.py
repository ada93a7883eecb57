#!/usr/bin/env python3
"""Grade an agent's answers to evals/evals.json. See --help."""

from unsloth_fft.grading.command import entry

if __name__ == "__main__":
    entry()
