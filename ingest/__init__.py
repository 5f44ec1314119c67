"""From bytes on MQTT to whole messages in the log, or to a quarantine with the reason."""
