"""From a batch of frames to anomaly maps and scores."""
