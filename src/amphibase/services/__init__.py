"""Rules that are the same in every home, written once over the contract."""
