"""The lock that every change of tables holds, whoever makes it."""

LOCK = 0x616D7068
"""The key of the advisory lock ("amph")."""
