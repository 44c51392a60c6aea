"""How a run looks to those who watch over it with tools of their own."""
