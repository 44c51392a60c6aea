"""From anomaly scores to p-values, events and alerts. Free of torch."""
