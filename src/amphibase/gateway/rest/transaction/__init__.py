"""The transaction of a request: its role, its settings, its statements."""
