"""The engine of accounts kept in SQL: users, sessions, passwords, tokens and their email."""
