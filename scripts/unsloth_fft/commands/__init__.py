"""One module a command: its arguments, its words, its JSON. The work itself is done to the left of here."""
