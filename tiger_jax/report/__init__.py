"""From what runs measured to tables."""
