"""Accounts with ids, hashes, identities, factors and sessions."""
