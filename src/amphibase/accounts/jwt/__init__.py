"""JSON Web Tokens: the keys that sign them and the check of a token."""
