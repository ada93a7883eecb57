"""A learning rate measured by short runs on the user's own rows: which rates, how many steps each, which one won."""
