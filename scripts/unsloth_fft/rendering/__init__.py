"""A plan as files for wherever it will run: scripts, notebooks, job files, other trainers' configurations."""
