"""One database: its engine, connections, compiled statements and who runs them."""
