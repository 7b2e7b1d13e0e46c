"""The errors of the Data API and their codes."""
