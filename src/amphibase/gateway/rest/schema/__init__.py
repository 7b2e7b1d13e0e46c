"""What the database has: tables, relationships and functions, read from its catalog."""
