"""From calls to outcomes: the session loop, policy, downstream servers, escalation, audit."""
