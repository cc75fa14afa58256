"""A training run as numbers: what a recipe states, and the recipes that have names."""
