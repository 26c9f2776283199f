"""Passes that replace a layer by cheaper ones."""
