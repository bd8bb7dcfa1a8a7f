"""Soft nearest neighbour loss (Frosst, Papernot and Hinton, ICML 2019).

For a batch of B points x with labels y and temperature T (equation 1 of the paper),

    l_i = -log( sum_{j != i, y_j = y_i} exp(-d_ij / T) / sum_{k != i} exp(-d_ik / T) )

is the surprise of sampling a point of its own class when anchor i picks a neighbour with probability
proportional to exp(-d_ik / T); the loss is the mean over anchors. A low loss means separated classes, a high
loss entangled classes. Four decisions, with no epsilon in the loss:

- l_i is computed as softplus(LSE over other classes - LSE over its own class), exact near 0 and without
  underflow (the 1e-5 of the first released code saturates at 11.5 and stops the gradient);
- an anchor that is alone in its class has no l_i: it is left out of the mean, and out of its divisor;
- features are centred before distances are computed: the loss does not change, its rounding error does;
- the temperature that eliminates T (equation 2) always *minimises* the loss, whatever the sign of
  its weight in the objective: maximising at a free temperature has no bound.

    distances    squared Euclidean and cosine, in chunks and blocks
    composition  quantities of the labels alone: chance level, anchors alone in their class
    neighbours   the loss of each anchor by its definition, the reference for tests of the fast forms
    closed_form  the loss and its gradient from distances, without autograd
    functions    the differentiable loss, from one distance matrix or from blocks of it
    loss         the public loss
    curve        the loss of some anchors as a function of log(1 / T), with two derivatives
    sample       some anchors with their distances, to choose a temperature
    training     the loss at the temperature that a mode chooses
    soft_labels  the loss where each point belongs to several classes
    streaming    the loss of all anchors of a data set, at many temperatures, without a distance matrix
    temperature  the exact minimum over T
    cleverhans   the first released code, for reproduction only
    controls     two penalties to compare the loss with
"""

from trainables.snnl.composition import batch_composition, chance_level
from trainables.snnl.distances import Distance
from trainables.snnl.loss import per_anchor_losses, soft_nearest_neighbor_loss
from trainables.snnl.soft_labels import soft_composition, soft_label_loss, soft_training_term
from trainables.snnl.streaming import streaming_losses
from trainables.snnl.temperature import TemperatureMinimum, minimise_temperature
from trainables.snnl.training import LearnedTemperature, TemperatureMode, TrainingTerm, training_term

__all__ = [
    "Distance",
    "LearnedTemperature",
    "TemperatureMinimum",
    "TemperatureMode",
    "TrainingTerm",
    "batch_composition",
    "chance_level",
    "minimise_temperature",
    "per_anchor_losses",
    "soft_composition",
    "soft_label_loss",
    "soft_nearest_neighbor_loss",
    "soft_training_term",
    "streaming_losses",
    "training_term",
]
