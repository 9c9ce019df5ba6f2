"""The tasks, one kind of output per file; :data:`~attnviz.targets.task.TASKS` imports every file."""
