"""The bytes of files and the rows that name them."""
