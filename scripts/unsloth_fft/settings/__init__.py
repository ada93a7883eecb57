"""What can be chosen, and the file that carries the choice: recipes, one setting, the parameters file."""
