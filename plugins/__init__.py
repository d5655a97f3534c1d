"""Built-in plugins: one feature, one folder, one shape."""
