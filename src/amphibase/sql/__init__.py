"""The SQL home: accounts, records and files in your own SQLite or Postgres."""
