"""Raw files and the synthetic shop, as datasets, splits and batches."""
