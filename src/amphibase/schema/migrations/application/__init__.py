"""The first revision of the application's own tables; the others are the application's."""
