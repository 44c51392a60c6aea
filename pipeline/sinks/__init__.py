"""Where scores and alerts are written and read: Redis Streams and Parquet."""
