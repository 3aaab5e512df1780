"""Networks as functions of a flat parameter tensor, many chains at a time."""
