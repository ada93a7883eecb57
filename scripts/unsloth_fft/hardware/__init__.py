"""Cards and machines: the cited table, prices, and what is found on this machine. Standard library only."""
