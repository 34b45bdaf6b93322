"""The guarded views."""
