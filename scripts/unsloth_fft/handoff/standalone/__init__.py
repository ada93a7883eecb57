"""The training that every rendered file carries, in parts that the renderer joins to one file without the bundle.

It is kept apart from training/ because it must stand alone, with nothing of the bundle imported; tests hold its
arguments, its tokens and its counts equal to what training/ and auditing/ give.
"""

PARTS = ("stop", "rows", "checks", "training", "audit", "results", "main")
