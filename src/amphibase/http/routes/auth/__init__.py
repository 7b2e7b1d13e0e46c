"""/auth: how users sign up and in, one module for each group of routes."""
