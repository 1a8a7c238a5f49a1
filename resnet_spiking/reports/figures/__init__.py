"""The figures of a report, one a module; ``catalogue`` lists them."""
