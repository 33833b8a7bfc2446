"""Thin sync and async shells round the cores."""
