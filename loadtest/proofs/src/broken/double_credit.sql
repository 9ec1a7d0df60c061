-- A courier that forgets to look for the credit that it already gave. Without the constraint alone it would still find it:
-- each try after the first one looks. So nodes see no credit of an earlier database transaction; everybody else sees all.
ALTER TABLE transfer_credits DROP CONSTRAINT one_credit_per_transfer;
CREATE INDEX credits_by_transfer ON transfer_credits (slot, user_id, transfer_id);
ALTER TABLE transfer_credits ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY all_but_earlier ON transfer_credits FOR SELECT
    USING (created_at >= transaction_timestamp() OR current_setting('application_name') <> 'picopay-node lane');
CREATE POLICY any_new ON transfer_credits FOR INSERT WITH CHECK (true);
CREATE POLICY any_changed ON transfer_credits FOR UPDATE USING (true);
CREATE POLICY any_removed ON transfer_credits FOR DELETE USING (true);
