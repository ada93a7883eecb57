#!/usr/bin/env python3
"""Plan a full fine-tuning run: prints validated JSON parameters. See --help, or SKILL.md beside this folder."""

from unsloth_fft.commands.plan import main
from unsloth_fft.core import terminal

if __name__ == "__main__":
    terminal.leave(main())
