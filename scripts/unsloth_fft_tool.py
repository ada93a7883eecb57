#!/usr/bin/env python3
"""Run and audit full fine-tuning with Unsloth. See --help, or SKILL.md beside this folder."""

from unsloth_fft.commands.tool import main
from unsloth_fft.core import terminal

if __name__ == "__main__":
    terminal.leave(main())
