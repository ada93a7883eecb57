"""unsloth-fft: plan, run and audit full fine-tuning with Unsloth.

The sub-packages follow the way the data flows, left to right; each knows only what is to its left:

    core -> planning -> training -> auditing -> reporting -> demo, commands

Only `training`, `auditing`, `reporting` and `demo` may import torch or its friends, and they do so late.
"""

__version__ = "0.1.0"
