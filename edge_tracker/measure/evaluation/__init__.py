"""Accuracy of a bundle on annotated video: data sets, one pass, metrics, tables and a page."""
