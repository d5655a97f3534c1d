"""What the Helm chart has of the declared options: its table of keys and its schema."""
