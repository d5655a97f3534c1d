"""Between the pure engine and the agent: store, tables, kernel maps, API."""
