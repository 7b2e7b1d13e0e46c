"""The S3 protocol of Storage: the same buckets and objects for clients of Amazon S3."""

PREFIX = "/s3"
"""Where Storage serves it."""
