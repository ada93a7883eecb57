#!/usr/bin/env python3
"""Run and audit full fine-tuning with Unsloth. See --help, or SKILL.md beside this folder."""

import sys

written, sys.dont_write_bytecode = sys.dont_write_bytecode, sys.pycache_prefix is None  # until keep_out() sees to it
from unsloth_fft.core import beginning  # noqa: E402

if __name__ == "__main__":
    beginning.answer_stops()
from unsloth_fft.core import bytecode  # noqa: E402

bytecode.keep_out()
sys.dont_write_bytecode = written
from unsloth_fft.commands.tool import main  # noqa: E402
from unsloth_fft.core import terminal  # noqa: E402

if __name__ == "__main__":
    terminal.leave(main())
