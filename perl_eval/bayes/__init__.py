"""The posterior that KL-regularised RL aims at: targets, estimates of how far something is from one, and samplers.

The target is ``prior(y | x) evidence(x, y) / Z(x)``, with evidence ``exp(reward / beta)``, a constraint, or both.
Choosing it (`target`) and approximating it (`estimates`, `selection`, `rejection`, `smc`) are separate steps with
separate failures. Pure functions of arrays and of plain callables; nothing here knows a model. Everything is in nats
and reward units.

Source: Korbak, Perez and Buckley, arXiv 2205.11275.
"""
