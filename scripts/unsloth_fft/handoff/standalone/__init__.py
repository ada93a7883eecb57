"""The training that every rendered file carries, in parts that the renderer joins to one file without the bundle.

What decides which tokens are learned is the bundle's own source, joined unchanged. The rest is written short here,
to be read in a notebook; tests hold its arguments, tokens and counts equal to what training/, data/ and auditing/ give.
"""

# Modules below unsloth_fft, in the order in which they are joined.
_SHARED = (
    "core.errors",
    "planning.row_format",
    "data.templates",
    "data.supervision",
    "data.splitting",
    "handoff.standalone.process",
    "handoff.standalone.rows",
    "handoff.standalone.checks",
    "handoff.standalone.loading",
)
_AFTER = ("handoff.standalone.audit", "handoff.standalone.results", "handoff.standalone.main")
PARTS = (*_SHARED, "handoff.standalone.training", *_AFTER)
PREFERENCE_PARTS = (*_SHARED, "handoff.standalone.preferences", *_AFTER)
