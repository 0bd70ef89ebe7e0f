"""Trackers: runs, their curves and their results in MLflow and Weights & Biases, through the lifecycle hooks."""

from .tracking import Tracker, Tracking

__all__ = ["Tracker", "Tracking"]
