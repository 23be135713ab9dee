"""What lies on disk, checked before it is loaded."""
