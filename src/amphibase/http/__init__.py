"""The HTTP front: routes, error responses, and what binds them to a FastAPI application."""
