"""What a person reads: cards in the terminal, figures, self-contained pages."""
