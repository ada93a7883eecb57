"""unsloth-fft: plan, run and audit full fine-tuning with Unsloth.

The packages follow the way of the data; each knows only those before it (tests/core/test_walls.py holds this):

    core, models, hardware, settings, estimates, weights, data, data_doctor, planning,
    memory_savers, training, tuning, auditing, benchmarking, reporting, rendering, finishing, demo, commands

From core to planning everything starts on the standard library. torch, transformers, trl and unsloth are imported from
memory_savers on, inside functions; numpy and tokenizers by weights and data_doctor, likewise late.
"""

__version__ = "0.1.0"
