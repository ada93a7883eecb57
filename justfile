# Everyday commands of the maintainers; each line can be pasted without just.
run := "uv run --extra train --extra real --extra test"

# What needs neither training nor seconds of trying.
test-fast:
    {{run}} pytest -m "not train and not slow"

# Everything, as CI runs it.
test:
    {{run}} pytest

lint:
    {{run}} ruff check scripts tests tools
    {{run}} ruff format --check scripts tests tools
    {{run}} mypy

# Write the generated pages of references/ again.
pages:
    {{run}} python -m tools.pages.evidence_page
    {{run}} python -m tools.pages.benchmarks_page
    {{run}} python -m tools.pages.gpu_choice_page
    {{run}} python -m tools.pages.methods_picture
    {{run}} python -m tools.pages.survival_picture

# Compare predictions with all measured rows; `just calibrate --fit` fits again.
calibrate *flags:
    {{run}} python -m tools.measurements.fit_calibration {{flags}}

# The ZIP to upload to Claude.
zip:
    {{run}} python scripts/build_skill.py --output dist
