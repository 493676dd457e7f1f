"""A run: its settings, what they build, and its folder."""
