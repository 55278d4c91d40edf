"""Sources of datasets: Amazon reviews, your own files, the synthetic shop."""
