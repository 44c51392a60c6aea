"""The systems that CFLOW-AD was proposed against, each one AnomalyModel."""
