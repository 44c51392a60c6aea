"""Metrics, protocols and reports over written scores."""
