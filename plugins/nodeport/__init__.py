"""Services for who comes from outside the cluster."""
