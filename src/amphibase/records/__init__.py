"""What a model is to the outside: fields, schemas, filters and cursors."""
