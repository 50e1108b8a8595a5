"""Generators that are not our own engine in this process. `tasks.generation.open_engine` chooses."""
