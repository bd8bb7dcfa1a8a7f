"""Batched trials: several classifiers of one architecture and batch size, trained as one program.

    refusals    which trials can be batched, and with which others
    training    train a list of configurations
    trials      members that come and go between epochs
    epoch       one epoch of all members
    objective   the loss of a step on one page; terms, neighbours, attack and mixing are its parts
    network     the network of all members; layers has the stacked form of each type of layer
    weights     parameters as rows of one matrix; steppers and average act on them

Each member's results equal those of the trial by itself, within the rounding of float32.
"""
