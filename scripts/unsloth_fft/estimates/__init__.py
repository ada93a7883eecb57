"""What a setting needs and does: memory, speed, surviving updates, disk; and the fitted constants."""
