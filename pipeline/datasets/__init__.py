"""Labelled data sets in the layouts their authors publish, and synthetic footage."""
