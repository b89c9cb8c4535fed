"""Certified bounds: lines around any activation on any interval, and bounds of whole models made from them."""

from .relaxation import Lines as Lines
from .relaxation import relax as relax
