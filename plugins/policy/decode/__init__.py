"""From policy objects to rules: one decoder per kind, all strict."""
