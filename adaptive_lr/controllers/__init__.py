"""Controllers: laws that turn statistics into adjustments of learning rate and momentum."""

from adaptive_lr.controllers.base import Adjustment as Adjustment
from adaptive_lr.controllers.base import Controller as Controller
from adaptive_lr.controllers.base import Reason as Reason
from adaptive_lr.controllers.composition import Composition as Composition
from adaptive_lr.controllers.composition import Decision as Decision
from adaptive_lr.controllers.composition import compose as compose
from adaptive_lr.controllers.gradient_spike import GradientSpike as GradientSpike
from adaptive_lr.controllers.loss_variance import LossVariance as LossVariance
from adaptive_lr.controllers.plateau import Plateau as Plateau
from adaptive_lr.controllers.range_test import RangeTest as RangeTest
from adaptive_lr.controllers.rescue import Rescue as Rescue
from adaptive_lr.controllers.sets import automatic as automatic
from adaptive_lr.controllers.sets import guarded as guarded
