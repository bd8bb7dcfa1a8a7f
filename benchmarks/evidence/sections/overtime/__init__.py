"""Entanglement of each residual block over training, on CIFAR-10, with and without the soft nearest neighbour loss.

The states of all epochs are kept until the last one, and then measured on test images, by which nothing is chosen.
Values are shares of the chance level, which depends on the number of images. Shapes: N images.
"""

from section import Section
from sections.overtime.design import units
from sections.overtime.measuring import measure
from sections.overtime.page import write
from sections.overtime.questions import questions

TITLE = "Entanglement of each residual block over training"
SECTION = Section("overtime", TITLE, units, measure, write, questions)
