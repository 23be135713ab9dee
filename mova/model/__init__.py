"""What the network computes."""
