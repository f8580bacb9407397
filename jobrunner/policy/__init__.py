"""The rules of jobrunner, pure: no I/O, no clock, no random numbers; instants and randomness come in as arguments.

`models` a call and a claimed row · `payload` arguments to JSON text · `progress` how far a job is · `outcomes` how a
run can end · `lifecycle` the state machine, `decide` · `backoff` when to try again · `floor` where a claim starts ·
`sqlstate` what a database error means · `durations` lengths of time as text · `text` foreign text made safe to store.

Of events: `events` what a class declares · `topics` patterns of types · `versions` upcasters · `subscriptions` what is
declared of one · `recorded` a row of the log · `envelope` what a handler sees of it · `saga` one process over several.
"""
