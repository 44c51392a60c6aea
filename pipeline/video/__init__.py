"""Opening, decoding and thinning video streams (the only room that imports av)."""
