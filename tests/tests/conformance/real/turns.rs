// Scenarios against the real server with a scripted model behind it: turns: what they are started with, how they end, what they come to. Included once for each runtime.
