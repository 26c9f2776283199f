"""Passes that train a model to follow a teacher."""
