#!/usr/bin/env python3
"""Run and audit full fine-tuning with Unsloth. See --help, or SKILL.md beside this folder."""

from unsloth_fft.commands.tool import entry

if __name__ == "__main__":
    entry()
