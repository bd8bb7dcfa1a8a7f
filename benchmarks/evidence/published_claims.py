"""Claims of the three papers that are tested, each with its place in the paper; a place in words is by our reading.

Sections that test the same claim name the same value, so the table of claims has a row for each.
"""

from questions import Published

_SZEGEDY, _FROSST, _VERMA = "Szegedy et al. 2014", "Frosst et al. 2019", "Verma et al. 2019"

DIRECTIONS = Published(_SZEGEDY, "random directions of a hidden layer are as interpretable as its units", "section 3")
NOT_BETTER = Published(
    _SZEGEDY, "the units of a hidden layer are no more interpretable than random directions", "section 3"
)
WORD_DIRECTIONS = Published(
    _SZEGEDY,
    "random directions of word vectors are as interpretable as their coordinates",
    "introduction, of others' work; by our reading",
)
FOOLED = Published(
    _SZEGEDY, "adversarial images made for one network fool others, beyond noise of their size", "table 2"
)
FOOLED_HALF = Published(
    _SZEGEDY, "adversarial images fool networks that were trained on a disjoint half of the data", "table 4"
)
LESS_ACROSS = Published(_SZEGEDY, "the effect of adversarial images is smaller across training sets", "table 4")
DECAY = Published(_SZEGEDY, "weight decay makes the smallest perturbation larger", "table 1")
ALL_LAYERS_HELP = Published(
    _SZEGEDY, "training on adversarial examples of all layers lowers the test error", "section 4.2"
)
LAYER_HELPS = Published(
    _SZEGEDY,
    "training on adversarial examples of one layer lowers the test error",
    "not in the paper: it trains on those of all layers",
)
HIGHER_HELPS = Published(
    _SZEGEDY, "adversarial examples of a hidden layer help more than those of the image", "section 4.2, by our reading"
)
BOUNDS = Published(
    _SZEGEDY,
    "large products of norms do not imply adversarial images: slopes are far below, less than a tenth",
    "section 4.3; the tenth is ours",
)

ACCURATE = Published(_FROSST, "entangled networks are more accurate", "table 1")
_REVERSED = "not in the paper: the reverse of {}"
SEPARATED = Published(_FROSST, "the reverse: separated networks are less accurate", _REVERSED.format("table 1"))
_OUR_ABSTRACT = "abstract, by our reading"
OUTLIERS = Published(_FROSST, "neighbours in entangled networks detect outliers better", _OUR_ABSTRACT)
INCREDIBLE = Published(_FROSST, "outliers have less credibility in entangled networks", "section on outliers")
ATTACKED = Published(_FROSST, "attacked images have less credibility in entangled networks", "section on attacks")
TRANSFER = Published(_FROSST, "attacks transfer less between entangled networks", "section on attacks")
SEPARATED_OUTLIERS = Published(
    _FROSST,
    "the reverse: neighbours in separated networks detect outliers worse",
    _REVERSED.format("the abstract, by our reading"),
)
SEPARATED_CREDIBLE = Published(
    _FROSST,
    "the reverse: outliers have more credibility in separated networks",
    _REVERSED.format("the section on outliers"),
)
SEPARATED_TRANSFER = Published(
    _FROSST,
    "the reverse: attacks transfer more between separated networks",
    _REVERSED.format("the section on attacks"),
)
_OVERTIME = "entanglement of a ResNet's layers over training"
LAST_LAYER = Published(_FROSST, "training lowers the entanglement of the last hidden layer", _OVERTIME)
LAST_MORE = Published(
    _FROSST, "training lowers entanglement more in the last hidden layer than in the lower blocks", _OVERTIME
)
LOWER_LAYERS = Published(_FROSST, "training keeps the entanglement of the lower layers", _OVERTIME)
LAST_STILL = Published(
    _FROSST, "training lowers the entanglement of the last hidden layer in entangled networks, too", _OVERTIME
)
DISCRIMINATES = Published(_FROSST, "entangling hidden layers leaves the last one less entangled", _OUR_ABSTRACT)
SEPARATES = Published(
    _FROSST,
    "the reverse: separating hidden layers leaves the last one more entangled",
    _REVERSED.format("the abstract, by our reading"),
)
_REAL = "entanglement of real and synthetic data"
REAL_RISES = Published(_FROSST, "training a generator raises the entanglement of real and synthetic images", _REAL)
_QUALITY = f"{_REAL}; the measure of quality is ours"
_FOLLOWS = "entanglement of real and synthetic images marks a good generator: it rises and falls with {}"
REAL_PRECISION = Published(_FROSST, _FOLLOWS.format("precision"), _QUALITY)
REAL_RECALL = Published(_FROSST, _FOLLOWS.format("recall"), _QUALITY)
_OBJECTIVE = "not in the paper: what the loss as an objective of a generator would have to do"
GAN_PRECISION = Published(_FROSST, "a generator that entangles has a higher precision by neighbours", _OBJECTIVE)
GAN_RECALL = Published(_FROSST, "a generator that entangles has a higher recall by neighbours", _OBJECTIVE)
GAN_HARDER = Published(
    _FROSST, "a generator that entangles is harder to tell from real images (1-NN accuracy)", _OBJECTIVE
)
GAN_EVEN = Published(_FROSST, "a generator that entangles makes the classes more evenly", _OBJECTIVE)

MIXED_ACCURATE = Published(_VERMA, "accuracy is higher with manifold mixup than without mixup", "tables 1 to 3")
MIXED_LIKELY = Published(
    _VERMA, "negative log-likelihood is lower with manifold mixup than without mixup", "tables 1, 2"
)
MIXED_DEFORMED = Published(
    _VERMA, "accuracy on deformed images is higher with manifold mixup than without mixup", "tables 4, 9"
)
MIXED_FGSM = Published(_VERMA, "accuracy under FGSM is higher with manifold mixup than without mixup", "table 7")
BEYOND_ACCURATE = Published(_VERMA, "accuracy is higher with manifold mixup than with input mixup", "tables 1 to 3")
BEYOND_LIKELY = Published(
    _VERMA, "negative log-likelihood is lower with manifold mixup than with input mixup", "tables 1, 2"
)
BEYOND_DEFORMED = Published(
    _VERMA, "accuracy on deformed images is higher with manifold mixup than with input mixup", "tables 4, 9"
)
BEYOND_FGSM = Published(_VERMA, "accuracy under FGSM is higher with manifold mixup than with input mixup", "table 7")
MIXED_PGD = Published(
    _VERMA, "manifold mixup is no defence against PGD: it gains less than 0.05 of accuracy", "section 5.3"
)
STRENGTH = Published(_VERMA, "accuracy is higher at alpha 2 than at 0.5", "table 6")
PLACES = Published(_VERMA, "accuracy is higher if the input is mixed too than in hidden layers alone", "table 5")
_FLATTER = "section 3.2"
FLATTER = Published(_VERMA, "a class varies in fewer directions with manifold mixup than without mixup", _FLATTER)
FLATTER_INPUT = Published(
    _VERMA, "a class varies in fewer directions with manifold mixup than with input mixup", _FLATTER
)
FLATTER_SCALE = Published(
    _VERMA,
    "a class varies in fewer directions than with a penalty that leaves the same scale",
    "not in the paper: our control of section 3.2",
)
FLATTER_DROPOUT = Published(
    _VERMA, "a class varies in fewer directions with manifold mixup than with dropout", _FLATTER
)
FLATTER_DECAY = Published(
    _VERMA, "a class varies in fewer directions with manifold mixup than with weight decay", _FLATTER
)
FLATTER_RANK = Published(
    _VERMA, "a class varies in fewer directions relative to all classes than without mixup", "appendix G"
)
