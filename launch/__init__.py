"""Plans, submits and shows grids. Runs from a checkout and never imports torch.

grid, options                                     the command
plan, show, prepare                               cells and their states, the table of them, a cell made ready
propose, arrays, sets, profiles                   what Slurm would get
slurm, submit, sbatch, snapshot, modules          handing it over, with a copy of the code
ledger, queued, claims, cancelled                 who has which cell, whatever died
scheduler, known                                  what Slurm says, and what it said last
actions, status, status_table, watch, logs, outputs    a grid under way
here, local                                       training on this machine
bench                                             what a large grid takes
"""
