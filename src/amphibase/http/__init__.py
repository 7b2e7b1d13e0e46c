"""The HTTP front: routes, error answers, and what binds them to a FastAPI application."""
