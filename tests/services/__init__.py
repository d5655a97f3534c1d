"""A packet's life through services: each program's output is the next one's input."""
