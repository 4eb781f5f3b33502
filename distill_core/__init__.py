"""Knowledge distillation for text classification: data, models, training, analysis and runs.

Importing this package does nothing but define names; read `pipeline.run` first.
"""

__version__ = "0.1.0"
