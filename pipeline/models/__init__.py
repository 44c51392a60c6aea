"""Encoder, condition vectors, flows and the checkpoint that holds them."""
