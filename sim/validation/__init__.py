"""The programme that proves or refutes the theory: checks, each a list of claims, run as one resumable command.

dynamics     closed forms of gradient descent and of Muon: Saxe, time scaling, edge of stability, hit steps, floors
expansions   area law, normalised law, initialisations, momentum, stages
retention    coupled nets against the Schur complement; what the small phase is worth
transfer     learning rates over depth and width
regret       theory's tau* against every tau
programme    runs them: one process a core, results stored as they come
"""
