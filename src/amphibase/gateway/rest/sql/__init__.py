"""The SQL statement of a plan."""
