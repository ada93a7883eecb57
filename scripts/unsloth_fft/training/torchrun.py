"""torchrun without its tracebacks: the launcher that started it tells in two lines what happened.

python -m unsloth_fft.training.torchrun ARGUMENTS takes what `python -m torch.distributed.run` takes.
"""

from __future__ import annotations

import sys

STOPPED, A_WORKER_FAILED = 130, 1


def main() -> int:
    """Run torchrun on this process's arguments; returns its exit code."""
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.main()
    except SignalException:
        return STOPPED
    except ChildFailedError:
        return A_WORKER_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
