"""What everything stands on: errors with exit codes, safe files, schema validation, words to a person."""
