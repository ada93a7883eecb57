"""Programs that measure, on a GPU or on this machine; their rows go to references/measurements/."""
