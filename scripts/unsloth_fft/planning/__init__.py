"""From model, hardware and data to a plan. Standard library and jsonschema only: it must start in a blink."""
