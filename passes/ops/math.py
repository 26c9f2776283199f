"""math ops (see ops/__init__.py)."""
