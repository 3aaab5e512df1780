"""What a report says in sentences: conclusions, methods, and what is missing."""
