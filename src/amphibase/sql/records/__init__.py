"""The rows of models on SQLite and Postgres."""
