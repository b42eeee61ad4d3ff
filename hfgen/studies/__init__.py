"""Each sentence of the question as an experiment, with its decision rule: `hfgen study`."""
