"""The response to a request."""
