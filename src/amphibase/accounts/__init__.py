"""The engine of accounts in SQL: users, sessions, passwords, tokens and their email."""
