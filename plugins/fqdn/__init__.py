"""DNS rules and policies by name: see README.md."""
