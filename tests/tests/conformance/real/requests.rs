// Scenarios against the real server with a scripted model behind it: the server's requests: approvals, questions, tools. Included once for each runtime.
