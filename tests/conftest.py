"""Fixtures come as plugins, one a concern."""

pytest_plugins = ["fix_local", "fix_simulator"]
