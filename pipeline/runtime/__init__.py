"""Pure decisions of the live path: buffers, batches, backoff. No ray, no clock of their own."""
