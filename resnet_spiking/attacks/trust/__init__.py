"""Checks that a robustness figure must pass before it is believed: one module per question."""
