"""DiGA and DDB: domain adaptive semantic segmentation, from recipe to results table."""

__version__ = "0.1.0"
