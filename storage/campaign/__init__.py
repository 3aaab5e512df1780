"""What a campaign says: its sections, each setting with its unit, default and bounds."""
