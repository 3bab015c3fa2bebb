"""The teacher cache: all that a student is trained from, sharded, verified, self-contained."""
