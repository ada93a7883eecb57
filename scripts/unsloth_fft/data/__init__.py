"""Data between planning and training: reading, splitting and mixing, supervision, and the data doctor."""
