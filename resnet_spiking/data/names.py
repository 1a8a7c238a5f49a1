"""The datasets by name, without importing torch."""

DATASETS = ("digits", "cifar10", "cifar100", "fashion-mnist", "folder")
