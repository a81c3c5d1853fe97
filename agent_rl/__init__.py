"""Learning and orchestration: objective, learner, trainer, evaluation, command line."""
