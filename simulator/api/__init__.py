"""What each call does and how its answer is written."""
