"""One detector a file, in River's interfaces: what the telemetry says about a device."""
