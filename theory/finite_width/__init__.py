"""Posteriors of networks of finite width: scaled and adaptive kernels, exact laws, order 1/N."""
