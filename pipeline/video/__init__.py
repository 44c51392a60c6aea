"""Opening, decoding and thinning video streams (the only package that imports av)."""
