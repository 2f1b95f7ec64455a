"""What can be asked of heads."""

from pipelines.tasks.classify import Classify
from pipelines.tasks.detect import Detect
from pipelines.tasks.label import Label
from pipelines.tasks.localize import Localize
from pipelines.tasks.task import Task

TASKS: dict[str, Task] = {task.name: task for task in (Classify(), Label(), Localize(), Detect())}

__all__ = ["TASKS", "Task"]
