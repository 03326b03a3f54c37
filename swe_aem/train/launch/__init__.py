"""`swe-aem train CONFIG --launch`: the servers and the training processes of a run on this host, as one thing.

`commands` says what runs on which GPU, `servers` keeps servers running, `ranks` holds the training processes, and
`run` puts them together. Importable without torch.
"""
