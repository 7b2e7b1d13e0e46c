"""Revisions of the tables of accounts."""
