"""What can be called: definitions, their schemas and pins, the catalogue of connected tools, and the shortlist."""
