"""Sweeps for other programs: tables, an Optuna study, TensorBoard, Weights & Biases, and a model without Ravel.

All but the model are computed from the plan and the event log alone. No code of a user is imported for them.
"""
