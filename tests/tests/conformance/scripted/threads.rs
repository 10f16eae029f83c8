// Scenarios against the scripted server, a fake: threads: their options, their history, their lists. Included once for each runtime.
