"""Passes that store numbers in fewer bits."""
