"""Changes of rows (`postgres_changes`): who wants which, who may see them, and how they look."""
