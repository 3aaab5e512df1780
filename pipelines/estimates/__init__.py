"""What a run will take, told from real steps on the machine at hand."""
