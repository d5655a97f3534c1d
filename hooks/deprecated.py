"""Every deprecation of the hook API in one place: none yet."""
