"""Kernels compiled from expressions: LLVM IR, vectorised, threaded, kept on disk."""
