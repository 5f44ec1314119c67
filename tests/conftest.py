"""Fixtures come as plugins, one a concern."""

pytest_plugins = ["fix_kafka", "fix_local", "fix_simulator", "fix_streaming"]
