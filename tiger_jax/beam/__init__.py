"""Prepares data, assigns Semantic IDs and recommends items with Apache Beam."""
