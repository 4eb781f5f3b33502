"""What trained models are worth, and what they say about a text."""
