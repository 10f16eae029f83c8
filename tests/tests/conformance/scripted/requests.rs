// Scenarios against the scripted server, a fake: the server's requests: approvals, questions, tools. Included once for each runtime.
