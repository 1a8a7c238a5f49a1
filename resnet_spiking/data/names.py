"""The datasets by name, without importing torch."""

DATASETS = ("digits", "cifar10", "cifar100", "fashion-mnist", "folder")

MIRRORED = ("cifar10", "cifar100", "fashion-mnist", "folder")
"""Those that are trained on mirror images too where ``flip`` is not set: ``load_dataset`` says so of each."""
