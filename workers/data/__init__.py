"""Data: synthetic problems with a known teacher, and images or arrays read from files.

`sources.make` gives one dataset, `sources.make_pool` a pool for regression and
`sources.files_identity` the digests of the files that enter. What is drawn comes from numbered,
counter-based streams.
"""
