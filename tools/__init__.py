"""What only maintainers run: measurements, calibration, pages, grading, the ZIP. Not in the ZIP.

Programs here start from the repository's root: `python -m tools.measurements.fit_calibration`.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The package, and for the programs that kill and resume small runs what the tests share.
sys.path[:0] = [
    place for place in (str(ROOT / name) for name in ("scripts", "tests", "tests/helpers")) if place not in sys.path
]
