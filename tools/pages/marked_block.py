"""The part of a page between two marks, which a tool writes: a comment that says so, and the comment that ends it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools import ROOT
from unsloth_fft.core import files


@dataclass(frozen=True)
class Block:
    """What stands in `page` between the lines `begin` and `end`."""

    page: Path
    begin: str
    end: str

    def write(self, text: str) -> None:
        """Put `text` there in place of what stands there now."""
        before, rest = self.page.read_text(encoding="utf-8").split(self.begin)
        files.write_text(self.page, f"{before}{self.begin}\n{text}\n{self.end}{rest.split(self.end)[1]}")


def print_or_write(description: str | None, make: Callable[[], str], block: Block) -> int:
    """A tool's whole command line: print the text, and with --write put it into its page."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = block.page.relative_to(ROOT)
    parser.add_argument("--write", action="store_true", help=f"put it into {where}")
    args = parser.parse_args()
    text = make()
    print(text)
    if args.write:
        block.write(text)
    return 0
