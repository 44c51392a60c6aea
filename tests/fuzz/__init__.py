"""What comes from outside, broken in every way hypothesis can think of: an answer or one clear line, nothing else.

``targets`` and ``hostile_configs`` hold a strategy and a check for each entry point. The tests try few cases, the
same each time; ``benchmarks/fuzz.py`` tries many, others for every seed.
"""
