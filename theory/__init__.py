"""Predictions and fits as pure functions of tensors and numbers: no files, no cluster, no clock."""
