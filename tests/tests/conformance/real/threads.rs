// Scenarios against the real server with a scripted model behind it: threads: their options, their history, their lists. Included once for each runtime.
