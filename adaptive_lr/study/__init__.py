"""Comparing recipes: workloads, runs, results, statistics and reports."""

from adaptive_lr.study.errors import StudyError as StudyError
from adaptive_lr.study.recipe import OPTIMIZERS as OPTIMIZERS
from adaptive_lr.study.recipe import RECIPES as RECIPES
from adaptive_lr.study.recipe import Recipe as Recipe
from adaptive_lr.study.run import Run as Run
from adaptive_lr.study.run import RunResult as RunResult
from adaptive_lr.study.run import execute as execute
from adaptive_lr.study.store import ResultStore as ResultStore
from adaptive_lr.study.study import Study as Study
from adaptive_lr.study.study import StudyFolder as StudyFolder
from adaptive_lr.study.summary import RecipeSummary as RecipeSummary
from adaptive_lr.study.summary import summarise as summarise
from adaptive_lr.study.workload import Evaluation as Evaluation
from adaptive_lr.study.workload import Workload as Workload
