"""Thin Ray shells around the library: processes and lifetimes, never a decision or formula."""
