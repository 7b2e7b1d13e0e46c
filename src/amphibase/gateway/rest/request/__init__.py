"""What a request of the Data API asks for, read from its line, headers and body."""
