"""The verbs as functions: paths or objects in, a result out; without ``out`` nothing is kept but the result.

Each does what the command of its name does, with the same options.
"""
