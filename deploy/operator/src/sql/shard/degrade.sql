-- In a session with synchronous_commit = local, or it would wait for the very standby that is missing.
INSERT INTO degradation (degraded_by, reason) VALUES ($1, $2) ON CONFLICT (only_row) DO NOTHING
