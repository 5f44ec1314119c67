"""The composition root: settings, command line, local parts. Everything is wired here, nothing is decided here."""
