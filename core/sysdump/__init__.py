"""``axoneme sysdump``: everything that helps to find a fault, in one file, without secrets."""
