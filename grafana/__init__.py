"""Boards as code, their provisioning through Grafana's HTTP API."""
