"""Comparing recipes: workloads, runs, results, statistics and reports."""

from adaptive_lr.study.base_schedules import BaseSchedule as BaseSchedule
from adaptive_lr.study.engine import Engine as Engine
from adaptive_lr.study.errors import StudyError as StudyError
from adaptive_lr.study.folder import StudyFolder as StudyFolder
from adaptive_lr.study.job import Standing as Standing
from adaptive_lr.study.job import carry_out as carry_out
from adaptive_lr.study.lock import Shard as Shard
from adaptive_lr.study.optimizer_choice import OptimizerChoice as OptimizerChoice
from adaptive_lr.study.recipe import COMPARED as COMPARED
from adaptive_lr.study.recipe import OPTIMIZERS as OPTIMIZERS
from adaptive_lr.study.recipe import RECIPES as RECIPES
from adaptive_lr.study.recipe import Recipe as Recipe
from adaptive_lr.study.recipe import Setting as Setting
from adaptive_lr.study.recipe import guarded_partner as guarded_partner
from adaptive_lr.study.run import Run as Run
from adaptive_lr.study.run import RunResult as RunResult
from adaptive_lr.study.run import execute as execute
from adaptive_lr.study.store import ResultStore as ResultStore
from adaptive_lr.study.study import Study as Study
from adaptive_lr.study.study import Tuning as Tuning
from adaptive_lr.study.study_file import read_study as read_study
from adaptive_lr.study.summary import RecipeSummary as RecipeSummary
from adaptive_lr.study.summary import summarise as summarise
from adaptive_lr.study.workload import Evaluation as Evaluation
from adaptive_lr.study.workload import Workload as Workload
