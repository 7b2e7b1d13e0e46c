"""A request resolved against the schema: what to read, change or call."""
