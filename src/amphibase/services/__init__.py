"""Rules that are the same on every backend, written once over the contract."""
