"""Revisions of the tables of files."""
