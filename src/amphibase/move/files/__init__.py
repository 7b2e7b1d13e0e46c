"""Buckets and files: bytes, types, owners and metadata."""
