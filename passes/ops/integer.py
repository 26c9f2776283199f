"""integer ops (see ops/__init__.py)."""
