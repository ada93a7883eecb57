#!/usr/bin/env python3
"""Plan a full fine-tuning run: prints validated JSON parameters. See --help, or SKILL.md beside this folder."""

import sys

from unsloth_fft.commands.plan import main

if __name__ == "__main__":
    sys.exit(main())
