-- After the statement, so that the mover is told of as many rows as it released.
CREATE FUNCTION undo_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE slot_owner SET state = OLD.state, owner = OLD.owner, epoch = OLD.epoch WHERE slot = OLD.slot;
    RETURN NULL;
END
$$;
CREATE TRIGGER undo_release AFTER UPDATE ON slot_owner
    FOR EACH ROW WHEN (OLD.state = 'owned' AND NEW.state = 'released') EXECUTE FUNCTION undo_release();
