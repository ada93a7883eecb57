#!/usr/bin/env python3
"""Write the ZIP to upload to Claude: the bundle without tests, byte for byte the same on every run."""

from unsloth_fft.commands.build import entry

if __name__ == "__main__":
    entry()
