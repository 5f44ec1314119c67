"""Crash equivalence: a recorded scenario run undisturbed and with seeded disasters must leave the same database."""
