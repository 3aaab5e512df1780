"""Whole objects in a folder or a bucket, and the records that are kept as such."""
