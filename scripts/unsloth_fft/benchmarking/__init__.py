"""What plans really need and do on this machine: each run for a few steps in a process of its own, kept as a row."""
