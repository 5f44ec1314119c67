"""A seeded fleet with ground truth, published over MQTT at any speed. Shares no code with ingest."""
