"""The built-in routes, one file per resource."""
