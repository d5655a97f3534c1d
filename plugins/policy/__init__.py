"""Network policy by identity; see README.md beside it."""
