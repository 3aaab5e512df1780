"""Wilsonian renormalization of regression: modes that are integrated out, running couplings."""
