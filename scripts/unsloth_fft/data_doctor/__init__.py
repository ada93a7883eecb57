"""The data doctor: reads every row once, as training would, and says what training would make of it."""
