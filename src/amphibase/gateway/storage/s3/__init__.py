"""The S3 protocol of Storage: the same buckets and objects for clients of Amazon S3."""
