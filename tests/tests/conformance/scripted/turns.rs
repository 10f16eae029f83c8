// Scenarios against the scripted server, a fake: turns: what they are started with, how they end, what they come to. Included once for each runtime.
