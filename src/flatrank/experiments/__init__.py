"""Experiments on real and synthetic data, and their reports."""
