-- While there is a row, an operator lets this shard go on without its synchronous standby (`picopay shard degrade`):
-- its commits wait for the primary alone, and the loss of the primary loses what was acknowledged since. Written with
-- synchronous_commit = local, or the very lack of a standby would keep it from being said. Removed under the fence,
-- exclusively, by `picopay shard restore`, in a commit that the standby has confirmed.
CREATE TABLE degradation (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    since       timestamptz NOT NULL DEFAULT now(),
    -- Who, as the operator's machine says, and why, in the operator's words.
    degraded_by text        NOT NULL,
    reason      text        NOT NULL
);
