#!/usr/bin/env python3
"""Write the ZIP to upload to Claude: the bundle without tests, byte for byte the same on every run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools.build_zip import entry  # noqa: E402

if __name__ == "__main__":
    entry()
