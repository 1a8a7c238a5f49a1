"""The backbones by name, without importing torch."""

BACKBONES = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet50-v1",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)
