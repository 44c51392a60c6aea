"""The library of cflow-stream: every decision and formula. Never imports ray or the actors."""
