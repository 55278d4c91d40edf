"""Prepares data, embeds items and recommends items with Apache Beam."""
