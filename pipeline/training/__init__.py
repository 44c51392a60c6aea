"""Fitting flows to normal footage."""
