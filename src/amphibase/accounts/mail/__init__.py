"""The email of accounts: what is written, and how it is sent."""
