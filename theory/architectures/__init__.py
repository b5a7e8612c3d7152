"""Sizes of published models, as plain data."""
