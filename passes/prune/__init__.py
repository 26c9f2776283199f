"""Passes that remove weights, channels, heads and layers."""
