"""Losses, the training loop, and the stages that teacher and student go through."""
