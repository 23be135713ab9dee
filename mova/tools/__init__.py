"""What a file is, and a small model to try things with."""
