// Scenarios against the scripted server, a fake: accounts and logins. Included once for each runtime.
