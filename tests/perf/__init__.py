"""Benchmarks: both sides in one run, alternating, medians and spread. Run by ``make bench``."""
