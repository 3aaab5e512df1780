"""What is measured on a segment of chains, at constant memory."""
