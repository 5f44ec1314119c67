"""The partition: Faust worker, embedded log, panes, state, snapshots and the one transaction."""
