"""Moves a live application from one backend to another, and proves that nothing was lost.

Data goes one way: `endpoints` opens the two sides, `planning` compares them and writes a `plan`
that people read and edit, and for what moves there is a stage each (`accounts/`, `tables/`,
`files/`) with the same steps: check, run, reconcile, verify, undo. The `journal` beside the plan
says how far they are.
"""
