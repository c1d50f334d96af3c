"""What is played against a server: one scenario a file."""
