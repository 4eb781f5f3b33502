"""Sweeps: many runs that differ in a few settings, what they cost, and what they say together."""
