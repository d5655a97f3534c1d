"""Services where programs connect."""
