"""Requests of the Data API, parsed from their request line, headers and body."""
