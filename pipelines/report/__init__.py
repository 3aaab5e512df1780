"""What a campaign shows: conclusions in words, figures, the page, and the export for a paper."""
