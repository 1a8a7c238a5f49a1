"""The classic attacks of torchattacks 3.5.1, behind a guard that keeps its defects out of every result."""
