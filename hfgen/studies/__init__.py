"""Each sentence of the question as an experiment, with its decision rule: `hfgen study`."""

from hfgen.studies.run import STUDIES, run_studies

__all__ = ["STUDIES", "run_studies"]
