"""From what is stored to verdicts: convergence, predictions, fits against the measurement."""
