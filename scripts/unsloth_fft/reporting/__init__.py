"""What a person looks at after a run: plots and one self-contained page."""
