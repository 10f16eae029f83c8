// Scenarios against the real server with a scripted model behind it: accounts and logins. Included once for each runtime.
