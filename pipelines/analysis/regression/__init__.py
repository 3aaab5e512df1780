"""Regressions against their theories: learning curves, exponents, the Wilsonian flow."""
