"""What a person reads: cards in the terminal, figures, self-contained pages."""

from .page import html as html
