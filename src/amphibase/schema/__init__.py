"""The tables of a database, their policies, and the migrations that make them."""
