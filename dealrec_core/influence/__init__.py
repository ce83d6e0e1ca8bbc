"""Influence of every sample on a risk: gradient products, inverse-Hessian solvers, scores."""
