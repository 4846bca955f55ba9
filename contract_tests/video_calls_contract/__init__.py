"""The contract suite: whether a deployed backend keeps the Video Calls API, and which sentence it breaks.

`rules/` holds the tests, one module a section of the document. They see a
backend through `people` alone: HTTP, and nothing that the contract does not promise. The other modules are
what a test stands on (`backend`, `exchange`, `checks`, `scheduling`, `observers`), what becomes of its result
(`results`, `baseline`, `reports/`) and how a run is started (`__main__`, `testing`, `preflight`,
`reference`).

Neither the reference server nor its packages may be imported from here.
"""
