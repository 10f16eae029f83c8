// Scenarios against the real server with a scripted model behind it: the session itself: connecting, restarting, isolation, ending. Included once for each runtime.
