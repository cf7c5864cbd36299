"""What runs pods: one port, and its implementations."""
