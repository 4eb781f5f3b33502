"""The classifiers that learn."""
