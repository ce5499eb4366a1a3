"""System: processes, sessions, servers, the proxy, the target's environment. May import history."""
