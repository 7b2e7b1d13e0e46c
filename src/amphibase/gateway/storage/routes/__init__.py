"""The routes of Storage: from a request to a response, one file for each kind."""
