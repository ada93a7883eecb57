"""From model, hardware and data to a plan. Standard library only: it must start in a blink."""
