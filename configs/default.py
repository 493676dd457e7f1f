"""Every setting there is, with its unit; the other configurations change a few of them."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.seed = 0  # of first weights, batches and distortions

    config.data = ml_collections.ConfigDict()
    config.data.name = "glyphs"  # drawn, needs no file; or "omniglot", "folder", "tfds"; or "mnist", to evaluate on
    config.data.size = 28  # side of the images, pixels; Omniglot has 105
    config.data.splits = "lake"  # of omniglot: "lake", "choose", "background", "koch", "small1", "small2", "longtail"
    config.data.data_dir = ""  # where prepared data lies; "" is ~/tensorflow_datasets
    config.data.manual_dir = ""  # folder with Omniglot's zips or unzipped folders; "" downloads them
    config.data.stream = False  # whether training images (not glyphs) are read step by step, beyond memory
    config.data.turns = 1  # 4: each alphabet of a batch is turned at random, as a new one; 8: or mirrored, too
    config.data.variants = 1  # 2: each identity comes as a new one, too, all its images stretched and bent alike
    config.data.glyphs = ml_collections.ConfigDict()
    config.data.glyphs.seed = 0  # of the alphabets to validate and test on, and of those that join
    config.data.glyphs.alphabets = 4  # new ones at every training step
    config.data.glyphs.joined = 0  # drawn alphabets that join Omniglot's to train on
    config.data.glyphs.share = 0.5  # mode identities: how often the first alphabet of a batch is one of them
    config.data.glyphs.characters = 26  # of an alphabet
    config.data.glyphs.drawers = 20  # of a character
    config.data.glyphs.test_alphabets = 10  # to validate on, and as many to test on

    config.data.folder = ml_collections.ConfigDict()
    config.data.folder.path = ""  # folder with a folder for each identity, or CSV file: path,identity[,group][,source]
    config.data.folder.channels = 1  # 1 for grey, 3 for colour
    config.data.folder.invert = False  # for dark ink on white paper, so that paper is 0
    config.data.folder.skip_unreadable = False  # whether to leave out files that are no images, or damaged
    config.data.folder.folds = 5  # equal parts that the identities are dealt out to
    config.data.folder.fold = 0  # the part to test on; the next one validates, the others train
    config.data.folder.by = "identity"  # or "group": what is dealt out as a whole
    config.data.folder.seed = 0  # of the dealing

    config.data.tfds = ml_collections.ConfigDict()  # a data set of TFDS; the rest as in `folder`
    config.data.tfds.name = ""
    config.data.tfds.splits = ""  # such as "train+test"; "" for all
    config.data.tfds.image = "image"  # its features
    config.data.tfds.label = "label"
    config.data.tfds.group = ""
    config.data.tfds.source = ""

    config.batch = ml_collections.ConfigDict()
    config.batch.mode = "identities"  # some images each of some identities; or "pairs", or "assigned" pairs
    config.batch.pairs = 128  # modes pairs and assigned: pairs a step, half of them the same
    config.batch.assigned = ml_collections.ConfigDict()  # the hardest different pairs, for a long tail of identities
    config.batch.assigned.epochs = 5  # with one assignment each, before all images are scored anew
    config.batch.assigned.noise = 10.0  # added to the scores at first, at most: pairs are drawn rather at random
    config.batch.assigned.decay = 0.5  # of the noise, every time images are scored
    config.batch.assigned.block = 1024  # images that are assigned to one another
    config.batch.identities = 40  # mode identities: identities a step; all of them, where there are fewer
    config.batch.per_identity = 4  # mode identities: images of each
    config.batch.per_group = 20  # mode identities: most identities of one alphabet
    config.batch.across_groups = False  # whether a head's different pairs may be of two alphabets

    config.augment = ml_collections.ConfigDict()
    config.augment.name = "affine"  # or "photo", which is affine and what stands under it; or "none"
    config.augment.affine = ml_collections.ConfigDict()
    config.augment.affine.probability = 0.5  # of each of the seven components
    config.augment.affine.rotation = 10.0  # degrees, at most
    config.augment.affine.shear = 0.3  # tangent, at most
    config.augment.affine.scale = 0.2  # change, at most
    config.augment.affine.shift = 2 / 105  # share of the side, at most
    config.augment.affine.bend = 0.0  # smooth local shifts, as a share of the side, standard deviation
    config.augment.affine.pen = 0.0  # change of the width of strokes, at most 1

    config.augment.photo = ml_collections.ConfigDict()
    config.augment.photo.flip = 0.5  # probability of a mirror image
    config.augment.photo.light = 0.2  # change of contrast and of brightness, at most
    config.augment.photo.colour = 0.1  # change of each channel against the others, at most
    config.augment.photo.erase = 0.0  # longest side of a rectangle that is hidden in training, as a share of the side

    config.encoder = ml_collections.ConfigDict()
    # "koch", "koch_scaled", "conv4", "conv5", "conv6", "pyramid", "local", "resnet12" or "faces"
    config.encoder.name = "conv5"
    config.encoder.width = 32  # channels of the first layer
    config.encoder.embedding = 256  # components of the embedding
    config.encoder.unit_length = False  # whether embeddings are brought to length 1
    config.encoder.dtype = "float32"  # of the computation, or "bfloat16", on GPU and TPU
    config.encoder.convolution = "auto"  # or "direct", "frequency", see siamjax/encoders/convolution.py

    config.head = ml_collections.ConfigDict()
    config.head.name = "weighted_l1"  # or one of these, with their options, see siamjax/heads.py
    config.head.aligned = {"cells": 7, "reach": 1, "scale": 14.0, "threshold": 0.7}
    config.head.binary = {"hidden": (128,)}
    config.head.four_feature = {"hidden": 32}
    config.head.mahalanobis = {"rank": 32}
    config.head.bilinear = {"symmetric": True}
    config.head.distance = {"distance": "euclidean", "scale": 10.0, "threshold": 0.7}

    config.loss = ml_collections.ConfigDict()
    # "cross_entropy" of the logits of the head, or their "ranking" (same pairs against different ones), trains encoder
    # and head; those below, functions of siamjax.losses and their options, train the encoder alone, and the head learns
    # to read its embeddings. With `soft`, a margin of 0 is usual.
    config.loss.name = "cross_entropy"
    config.loss.batch_contrastive = {"margin": 1.0, "balance": 0.5, "active_only": False, "distance": "euclidean"}
    config.loss.batch_double_margin_contrastive = {
        "pos_margin": 0.5,
        "neg_margin": 1.0,
        "balance": 0.5,
        "active_only": False,
        "distance": "euclidean",
    }
    config.loss.batch_linear_contrastive = {
        "pos_margin": 0.0,
        "neg_margin": 1.0,
        "balance": 0.5,
        "active_only": False,
        "distance": "euclidean",
    }
    config.loss.batch_exponential_contrastive = {"q": 1.0, "balance": 0.5, "distance": "l1"}
    config.loss.batch_cosine_embedding = {"margin": 0.0, "balance": 0.5, "active_only": False}
    config.loss.batch_pairwise_sigmoid = {"t": 10.0, "b": -10.0}
    config.loss.circle = {"m": 0.4, "gamma": 80.0}
    config.loss.batch_all_triplet = {"margin": 0.2, "soft": False, "active_only": False, "distance": "euclidean"}
    config.loss.batch_hard_triplet = {"margin": 0.2, "soft": False, "distance": "euclidean"}
    config.loss.semi_hard_triplet = {"margin": 0.2, "soft": False, "fallback": True, "distance": "squared_euclidean"}
    config.loss.easy_positive_triplet = {
        "margin": 0.2,
        "soft": False,
        "semi_hard": False,
        "distance": "squared_euclidean",
    }
    config.loss.lifted_structure = {"margin": 1.0, "distance": "euclidean"}
    config.loss.generalized_lifted_structure = {"margin": 1.0, "distance": "euclidean"}
    config.loss.ranked_list = {
        "alpha": 1.2,
        "margin": 0.4,
        "positive_temperature": 0.0,
        "negative_temperature": 10.0,
        "imbalance": 0.5,
        "constant_weights": True,
        "distance": "euclidean",
    }
    config.loss.multi_similarity = {"alpha": 2.0, "beta": 50.0, "base": 0.5, "epsilon": 0.1}
    config.loss.angular = {"alpha": 45.0}
    config.loss.angular_n_pair = {"alpha": 45.0, "angular_weight": 1.0}
    config.loss.n_pair = {}
    config.loss.ntxent = {"temperature": 0.07}
    config.loss.supervised_contrastive = {"temperature": 0.1, "distance": "cosine"}

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "adamw"  # or "koch"
    config.optimizer.average = 0.0  # what the running mean of the weights keeps at a step; it is evaluated. 0 for none
    config.optimizer.adamw = ml_collections.ConfigDict()
    config.optimizer.adamw.learning_rate = 2e-3  # at its peak
    config.optimizer.adamw.final_share = 0.01  # of the peak, where the cosine ends
    config.optimizer.adamw.warmup_steps = 20
    config.optimizer.adamw.weight_decay = 1e-4
    config.optimizer.adamw.clip_norm = 1.0  # of the encoder's gradient, and of the head's
    config.optimizer.koch = ml_collections.ConfigDict()
    config.optimizer.koch.epoch_decay = 0.99  # of the learning rates, an epoch
    config.optimizer.koch.first_momentum = 0.5
    config.optimizer.koch.momentum_epochs = 50  # in which momentum rises to each layer's own
    config.optimizer.koch.layers = ml_collections.ConfigDict()
    for layer in ("conv1", "conv2", "conv3", "conv4", "dense", "head", "default"):
        config.optimizer.koch.layers[layer] = ml_collections.ConfigDict()
        config.optimizer.koch.layers[layer].learning_rate = 0.01
        config.optimizer.koch.layers[layer].momentum = 0.9  # at the end of its rise
        config.optimizer.koch.layers[layer].l2 = 1e-5  # weight of the sum of squares in the loss

    config.train = ml_collections.ConfigDict()
    config.train.start = ""  # run folder whose network to start from, in place of random weights
    config.train.steps = 1000  # at most
    config.train.epoch_steps = 100  # of an epoch, the unit of Koch's schedules
    config.train.validate_every = 100  # steps; the latest checkpoint is saved then
    config.train.log_every = 10  # steps
    config.train.patience = 20  # validations without gain before training stops
    config.train.keep = (
        "best"  # the checkpoint to evaluate: the best on validation; or the "last", whatever patience says
    )

    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.seed = 0  # of trials and pairs
    config.evaluation.ways = 20  # of the trials within an alphabet
    config.evaluation.trials = 10_000  # of each protocol, a multiple of ways
    config.evaluation.validation_trials = 800  # during training, a multiple of ways
    config.evaluation.pairs = 10_000  # to verify
    config.evaluation.copies = 0  # distorted copies of each image over which its embedding is averaged, too
    config.evaluation.across_groups = False  # whether different pairs to verify may be of two alphabets
    return config
