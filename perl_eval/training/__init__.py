"""Supervised fine-tuning, reward models and RL policies on one frozen backbone."""
