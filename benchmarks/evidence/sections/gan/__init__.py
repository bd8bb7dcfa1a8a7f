"""Entanglement of real and synthetic images: a small DCGAN on MNIST, with and without the loss as a term of training.

Each network is measured on validation images after each epoch, and once on test images, with noise of its own for each
of their sets. A classifier that no generator was trained against counts the digits and gives the features.
"""

from section import Section
from sections.gan.design import units
from sections.gan.measuring import measure
from sections.gan.page import write
from sections.gan.questions import questions

SECTION = Section("gan", "Entanglement of real and synthetic digits", units, measure, write, questions)
