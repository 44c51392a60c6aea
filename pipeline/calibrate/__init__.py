"""Adding normal footage to a model, and saying what thresholds follow from all that there is."""
