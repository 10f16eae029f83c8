// Scenarios against the scripted server, a fake: the session itself: connecting, restarting, isolation, ending. Included once for each runtime.
