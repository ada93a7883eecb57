"""Words of audits and plans, explained for someone who meets them in a report or a model card."""

from __future__ import annotations

# What each verdict of the audit means (auditing/verdict.py; references/exactness.md, Verdicts).
VERDICTS = {
    "full": "Every part of the model was really trained.",
    "partial": "Some weights stood still, although training was meant to move them. The causes are below.",
    "frozen": "Not one weight moved: this model is still its base.",
    "incomparable": "The trained model and its base do not have the same tensors, so they cannot be compared.",
}
# How sure a plan is of its figures (planning/basis.py).
BASES = {
    "measured": "a formula, beside a measurement of these very settings on this card",
    "calibrated": "a formula fitted to measurements on this card",
    "extrapolated": "a formula, for hardware or a model that was not measured; the speed may be well off",
}
